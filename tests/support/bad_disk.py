"""A disk that goes bad on demand, under a real process: the preloaded library ``bad_disk.c``, driven from a test.

It sits between the process and the kernel, so what the process does is the production code alone. It sees the calls of
SQLite (apsw imports them from the C library), of Python and of the event loop, but not what the kernel does by itself.
"""

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

SOURCE: Final = Path(__file__).with_name("bad_disk.c")


class Call(NamedTuple):
    """One call that the library saw; ``number`` counts from 1 in a round, 0 if it is of a kind that does not count."""

    number: int
    at_ns: int
    kind: str
    size_bytes: int
    offset: int
    errno: int
    path: str


class BadDisk:
    """The disk of one process, good until :meth:`arm`.

    Args:
        folder: where its control file and its journal are kept; not on the disk that goes bad.
        match: part of the paths that it watches; with a ``$`` at its end, how they end. It may be changed before
            :meth:`arm`.
    """

    def __init__(self, folder: Path, match: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._control, self._journal = folder / "bad_disk", folder / "bad_disk.log"
        self.match, self._round = match, 0
        self.mend()

    @property
    def env(self) -> dict[str, str]:
        """What the process gets into its environment."""
        return {"LD_PRELOAD": str(library()), "BAD_DISK": str(self._control), "BAD_DISK_LOG": str(self._journal)}

    def arm(self, fault: str, nth: int = 1, *, calls: Sequence[str] = (), times: int = 1, delay_ms: int = 0) -> None:
        """From now on the ``nth`` call goes wrong.

        Args:
            fault: ``kill-before`` or ``kill-after`` it, ``delay`` it, or its error: ``EIO``, ``ENOSPC``, ``EINVAL``.
            nth: which one, from 1.
            calls: the kinds that count: write, sync, flush (not waited for), truncate, rename, link, unlink, send (on a
                socket); all if empty.
            times: how many it hits, 0 for all that follow.
            delay_ms: for ``delay``.
        """
        self._round += 1
        lines = {"match": self.match, "calls": ",".join(calls), "fault": fault, "nth": nth}
        lines |= {"times": times, "ms": delay_ms, "round": self._round}
        self._write(lines)

    def mend(self, calls: Sequence[str] = ()) -> None:
        """From now on nothing goes wrong; the count starts again."""
        self.arm("none", 0, calls=calls)

    def seen(self) -> list[Call]:
        """Every call since :meth:`forget`."""
        if not self._journal.exists():
            return []
        lines = (line.split(" ", 6) for line in self._journal.read_text("utf-8").splitlines())
        return [Call(int(n), int(at), kind, int(b), int(o), int(e), path) for n, at, kind, b, o, e, path in lines]

    def forget(self) -> None:
        """Empty the journal."""
        self._journal.unlink(missing_ok=True)

    def _write(self, lines: dict[str, object]) -> None:
        draft = self._control.with_suffix(".new")
        draft.write_text("".join(f"{key}={value}\n" for key, value in lines.items()), encoding="utf-8")
        draft.replace(self._control)  # at once: a process may be reading it


@functools.cache
def library() -> Path:
    """The compiled library; made once for each state of its source."""
    source = SOURCE.read_bytes()
    made = Path(tempfile.gettempdir()) / f"agentcom-bad-disk-{os.getuid()}-{hashlib.sha256(source).hexdigest()[:12]}.so"
    if not made.exists():
        need_programs("gcc", "libc6-dev")
        draft = made.with_suffix(f".{os.getpid()}")
        command = ["gcc", "-Wall", "-O1", "-shared", "-fPIC", "-o", str(draft), str(SOURCE), "-ldl"]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stderr
        draft.replace(made)
    return made


def need_programs(program: str, *packages: str) -> None:
    """Have a program that no Python package brings; as root on Debian it is installed.

    Raises:
        AssertionError: it is not there and cannot be had. Such a test fails, it is never skipped.
    """
    if shutil.which(program):
        return
    names = [program, *packages]
    assert os.geteuid() == 0, f"install {' '.join(names)}: a test needs it"
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *names]):
        done = subprocess.run(["apt-get", *command], capture_output=True, text=True, check=False, env=quiet)
        assert done.returncode == 0, f"apt-get {command[0]}: {done.stderr[-1_000:]}"


def lose_unsynced(calls: Sequence[Call]) -> None:
    """Take away what was written to each file since its last sync that succeeded, as a power cut may."""
    unsynced: dict[str, list[Call]] = {}
    for call in calls:
        if call.kind == "sync" and not call.errno:
            unsynced[call.path] = []
        elif call.kind == "write" and call.path != "socket" and not call.errno:
            unsynced.setdefault(call.path, []).append(call)
    for path, writes in unsynced.items():
        with Path(path).open("r+b") as file:
            for call in writes:
                file.seek(call.offset)
                file.write(bytes(call.size_bytes))

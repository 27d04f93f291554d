"""One program as a child process: started, followed to its exit, its output read.

Holds the process, its pipes and the tail of what it said; knows no other process of the attempt and signals nobody:
that is :mod:`sidecar.process`, the only caller.

A program is started without an ``await`` between fork and handle, so no cancellation can lose it; its exit is awaited
on a pidfd where the system has them and polled elsewhere. Output is read in chunks, never in lines, so a line may be as
long as it likes and memory stays bounded.
"""

import asyncio
import codecs
import contextlib
import errno
import os
import shlex
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from protocol.model import AttemptId, FailureClass
from sidecar.errors import CannotStart
from sidecar.guard import tagging

CHUNK_BYTES: Final = 64 << 10
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
NICE: Final = 5
"""Enough for the sidecar to get its turn first; more would starve the work on a machine that others use, too."""
OOM_SCORE: Final = 500
"""Of 1,000: the kernel looks for its victim among the work long before it looks at us."""

OnOutput = Callable[[str, str], None]


class Tail:
    """The last bytes of a text that arrives in pieces; memory stays near the limit however much comes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._pieces: deque[str] = deque()
        self._chars = 0
        self.seen_bytes = 0

    def add(self, text: str) -> None:
        """Take the next piece; drops from the front what can no longer be part of the answer."""
        self._pieces.append(text)
        self._chars += len(text)
        # A character is at least a byte, so `limit` characters are always enough to fill `limit` bytes.
        while self._chars - len(self._pieces[0]) >= self._limit and len(self._pieces) > 1:
            self._chars -= len(self._pieces.popleft())

    def text(self) -> str:
        """At most the limit, cut between characters."""
        whole = "".join(self._pieces).encode()
        return whole[max(0, len(whole) - self._limit) :].decode(errors="ignore")


@dataclass(eq=False)
class Child:
    """A program that was started: its process, its pipes, and what it has said so far."""

    attempt: AttemptId
    run: str
    tag: int
    process: subprocess.Popen[bytes]
    pipes: tuple[tuple[str, IO[bytes]], ...]
    tail: Tail
    on_output: OnOutput | None
    started: float
    ended_by_us: bool = False
    pumps: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """Process id, and the number of the session that the program leads."""
        return self.process.pid

    async def exited(self) -> None:
        """Return once the process has exited; leaves it reaped."""
        if self.process.returncode is not None:
            return
        if not hasattr(os, "pidfd_open"):
            while self.process.poll() is None:  # noqa: ASYNC110 - this system offers no exit that can be awaited
                await asyncio.sleep(0.01)
            return
        pidfd = os.pidfd_open(self.pid)
        try:
            await _readable(pidfd)
        finally:
            os.close(pidfd)
        self.process.poll()

    async def pump(self, stream: str, pipe: IO[bytes]) -> None:
        """Read one pipe to its end, a chunk at a time; a line may be as long as it likes."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        while True:
            try:
                chunk = os.read(pipe.fileno(), CHUNK_BYTES)
            except BlockingIOError:
                await _readable(pipe.fileno())
                continue
            self.tail.seen_bytes += len(chunk)
            if text := decoder.decode(chunk, final=not chunk):
                self.tail.add(text)
                if self.on_output:
                    self.on_output(stream, text)
            if not chunk:
                return
            await asyncio.sleep(0)  # a program that floods us must not stop the rest of the sidecar

    async def follow(self, timeout_s: float | None) -> bool:
        """Read output until the program exits; ``False`` if it was still there after ``timeout_s``.

        Raises:
            Exception: what ``on_output`` raised.
        """
        self.pumps = [asyncio.create_task(self.pump(stream, pipe)) for stream, pipe in self.pipes]
        exit_ = asyncio.create_task(self.exited())
        try:
            return await self._exit_or_timeout(exit_, timeout_s)
        finally:
            if not exit_.done():
                exit_.cancel()
                await asyncio.wait({exit_})

    async def _exit_or_timeout(self, exit_: asyncio.Task[None], timeout_s: float | None) -> bool:
        until = None if timeout_s is None else self.started + timeout_s
        waiting: set[asyncio.Task[None]] = {exit_, *self.pumps}
        while not exit_.done():
            left_s = None if until is None else until - time.monotonic()
            if left_s is not None and left_s <= 0:
                return False
            done, waiting = await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        return True

    async def drain(self, drain_s: float) -> None:
        """Read what is left in the pipes, at most ``drain_s``, and close them."""
        if self.pumps:
            _, late = await asyncio.wait(self.pumps, timeout=drain_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        self.close()

    def check_pumps(self) -> None:
        """Raise what ``on_output`` raised, if it did."""
        for task in self.pumps:
            if not task.cancelled():
                task.result()

    def close(self) -> None:
        """Let go of the pipes; whoever still writes to them gets SIGPIPE."""
        for _, pipe in self.pipes:
            pipe.close()


class NotThere(Exception):
    """The program is missing or cannot be executed: an outcome like a shell's, not an error of ours."""

    def __init__(self, exit_code: int, said: str) -> None:
        self.exit_code, self.said = exit_code, said
        super().__init__(exit_code, said)


def start(
    argv: list[str],
    cwd: Path,
    env: Mapping[str, str],
    stdin: IO[bytes] | int,
    tag: int = 0,
    fds: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, its output in two pipes, carrying ``tag`` if there is one.

    It runs with less claim to the processor and to memory than we have: the sidecar has to go on telling the hub that
    it lives, whatever the work does to the machine.

    Raises:
        NotThere: there is no such program, or it cannot be executed.
        CannotStart: no process can be made of this, or not now.
    """
    assert argv, "a command has at least a program"
    program = shlex.quote(argv[0]) if "\0" not in argv[0] else "command"
    try:
        with tagging(tag):
            process = subprocess.Popen(
                argv,
                cwd=cwd,
                env=env,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                pass_fds=fds,
            )
    except ValueError as exc:
        why = "the command, its folder or its environment holds a NUL byte or is no text"
        raise CannotStart(argv[0], why, FailureClass.INPUT) from exc
    except OSError as exc:
        if exc.filename == str(cwd) or exc.filename == cwd:
            raise CannotStart(argv[0], f"its folder {cwd}: {exc.strerror}", FailureClass.INFRA) from exc
        if isinstance(exc, FileNotFoundError | NotADirectoryError):
            raise NotThere(NOT_FOUND, f"{program}: command not found\n") from exc
        if isinstance(exc, PermissionError) or exc.errno == errno.ENOEXEC:
            raise NotThere(NOT_EXECUTABLE, f"{program}: cannot be executed: {exc.strerror}\n") from exc
        too_long = exc.errno in {errno.E2BIG, errno.ENAMETOOLONG}
        failure = FailureClass.INPUT if too_long else FailureClass.INFRA
        raise CannotStart(argv[0][:100], str(exc.strerror), failure) from exc
    _yield_to_us(process.pid)
    return process


def _yield_to_us(pid: int) -> None:
    """Have the processor and, when memory runs out, the kernel prefer us to this process and its descendants."""
    with contextlib.suppress(OSError):  # it has ended, or the system has no such thing
        os.setpriority(os.PRIO_PGRP, pid, NICE)
    for name, value in (("autogroup", NICE), ("oom_score_adj", OOM_SCORE)):
        with contextlib.suppress(OSError):
            fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY)
            try:
                os.write(fd, str(value).encode())
            finally:
                os.close(fd)


async def _readable(fd: int) -> None:
    """Return once ``fd`` can be read."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(fd, wake)
    try:
        await ready
    finally:
        loop.remove_reader(fd)

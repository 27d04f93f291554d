"""The promises of the file that starts a confined program: real files run by the real kernel, no sandbox around them.

That nothing gets out of what it builds is shown with all other walls by ``tests/integration/test_sandbox.py``.
"""

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sidecar.sandbox import landlock, seccomp
from sidecar.sandbox.starter import MACHINE, starter, walls

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != MACHINE, reason=f"these files are for Linux on {MACHINE}"
)
ENV = {b"PATH": b"/usr/bin:/bin"}
NOTHING: dict[str, Any] = {"handled": 0, "filter": b"", "groups": (), "doors": ()}


class Ended(NamedTuple):
    code: int
    out: str
    told: str
    is_ready: bool


def start(
    *argv: str,
    env: Mapping[bytes, bytes] = ENV,
    limits: tuple[tuple[int, int, int], ...] = (),
    cwd: Path | None = None,
    **orders: Any,
) -> Ended:
    """Start a program through a file that is made for it."""
    orders = {**NOTHING, **orders, "argv": list(argv)}
    given = os.memfd_create("test")
    heard, said = os.pipe()
    os.set_blocking(heard, False)
    try:
        os.write(given, starter(walls(orders, limits), orders, env, given, said))
        command = [f"/proc/self/fd/{given}"]
        done = subprocess.run(command, env={}, pass_fds=(given, said), cwd=cwd, capture_output=True, check=False)
        try:
            is_ready = os.read(heard, 8) == b"1"
        except BlockingIOError:
            is_ready = False
    finally:
        for fd in (given, heard, said):
            os.close(fd)
    return Ended(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(), is_ready)


def test_the_program_gets_its_words_and_variables_and_none_of_our_descriptors() -> None:
    words = start("printf", "%s|", "", "grüße 'x'", "a\nb")
    variables = start("env", env={**ENV, b"A": b"=\xff", b"B": b""})

    assert words == Ended(0, "|grüße 'x'|a\nb|", "", is_ready=True)
    assert variables.out == "PATH=/usr/bin:/bin\nA==\ufffd\nB=\n"
    assert start("ls", "/proc/self/fd").out.split() == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    "broken, told",
    [
        ({"limits": ((resource.RLIMIT_NOFILE, 9, 5),)}, "limits: Invalid argument\n"),
        ({"handled": 1 << 60, "scoped": 0, "network": 0, "paths": []}, "landlock: Invalid argument\n"),
        ({"filter": bytes(8)}, "seccomp: Invalid argument\n"),
        ({"groups": (999,)}, "control group: Bad file descriptor\n"),
        ({"doors": ((999, 0),)}, "door: Bad file descriptor\n"),
    ],
)
def test_a_step_that_fails_is_told_and_nothing_has_run(tmp_path: Path, broken: dict[str, Any], told: str) -> None:
    done = start("touch", "ran", cwd=tmp_path, **broken)

    assert done == Ended(125, "", told, is_ready=False)
    assert not (tmp_path / "ran").exists()


def test_what_a_rule_allows_goes_and_all_else_does_not(tmp_path: Path) -> None:
    if landlock.version() < landlock.LEAST:
        pytest.skip(f"not tested here: Landlock {landlock.version()}, {landlock.LEAST} is needed")
    (tmp_path / "open").mkdir()
    (tmp_path / "one").touch()
    every = landlock.accesses(landlock.version())
    paths = [
        *((path, landlock.READ) for path in ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/nowhere/at/all")),
        *((str(tmp_path / name), every) for name in ("open", "one")),
    ]
    rules = {"handled": every, "scoped": 0, "network": 0, "paths": paths}
    tried = start("sh", "-c", "for to in open/a one other; do echo x >$to && echo $to; done", cwd=tmp_path, **rules)

    assert (tried.out, tried.is_ready) == ("open/a\none\n", True), tried.told
    assert tried.told.count("Permission denied") == 1


def test_limits_and_the_filter_hold_and_a_file_that_is_too_large_is_an_error(tmp_path: Path) -> None:
    code = seccomp.program(MACHINE, (), isolated=True)
    limits = ((resource.RLIMIT_FSIZE, 4096, 4096), (resource.RLIMIT_NOFILE, 20, 20))
    told = "import socket\ntry: socket.socket()\nexcept PermissionError: print('no socket')"
    large = start("sh", "-c", "ulimit -n; head -c 9000 /dev/zero >f; echo $?", limits=limits, cwd=tmp_path)

    assert start(sys.executable, "-I", "-S", "-c", told, filter=code).out == "no socket\n"
    assert (large.out, (tmp_path / "f").stat().st_size) == ("20\n1\n", 4096)


def test_a_program_is_looked_for_in_its_own_path_and_the_first_error_is_told(tmp_path: Path) -> None:
    for folder, text, mode in (("a", "", 0o644), ("b", "#!/bin/sh\necho b\n", 0o755)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tool").write_text(text)
        (tmp_path / folder / "tool").chmod(mode)
    a, b = (os.fsencode(tmp_path / name) for name in ("a", "b"))

    assert start("tool", env={b"PATH": b"/nowhere:%b/tool:%b:%b" % (a, a, b)}).out == "b\n"
    assert start("tool", env={b"PATH": a}) == Ended(126, "", "tool: cannot be executed: Permission denied\n", True)
    assert start("tool", env={}) == Ended(127, "", "tool: command not found\n", True)
    assert start("./tool", env={}, cwd=tmp_path / "b").out == "b\n"

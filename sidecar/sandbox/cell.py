"""The place where all programs of one attempt run, and the way they are kept in it.

Nothing of an attempt is started but through a :class:`Cell`, so no executor, tool or check can forget the sandbox. It
fails closed: a program of which the launcher does not say that everything holds has not run, and the attempt ends with
:class:`sidecar.errors.SandboxFailed`. Only the owner of the host can do without (``sandbox = "unsafe"``), and then it
stands in what the agent tells everybody. Callers: :mod:`sidecar.rounds` makes cells, :mod:`sidecar.app` the
:class:`Sandbox`.
"""

import asyncio
import contextlib
import functools
import marshal
import os
import platform
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from types import CodeType, MappingProxyType
from typing import Any, Final

import structlog

from protocol.limits import MAX_OUTPUT_BYTES
from protocol.model import AttemptId, FailureClass
from sidecar.cgroups import Counted
from sidecar.child import OnOutput
from sidecar.core.egress import Allowed
from sidecar.errors import CannotStart, SandboxFailed
from sidecar.guard import Guard
from sidecar.process import Processes, ProcessOutcome
from sidecar.sandbox import bubblewrap, landlock, seatbelt, seccomp, starter
from sidecar.sandbox.door import Door
from sidecar.sandbox.egress import Egress
from sidecar.sandbox.groups import Group, Groups
from sidecar.sandbox.policy import Place, Rules, View, look, view, without

log = structlog.get_logger(__name__)

_LAUNCHER: Final = Path(__file__).with_name("launcher.py")
_START: Final = (
    "import marshal, sys\n"
    "with open(int(sys.argv[1]), 'rb') as file: code, orders = marshal.load(file)\n"
    "names = {'__name__': 'launcher'}\n"
    "exec(code, names)\n"
    "names['main'](orders, int(sys.argv[2]))"
)
"""What the bare interpreter is told: to read a launcher that is compiled already, and its orders."""
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_PYTHON: Final = os.path.realpath(sys.executable)
_BARE: Final = (_PYTHON, "-I", "-S", "-c", _START)
_TMP: Final = "/tmp"  # noqa: S108 - inside, and the attempt's own
_TRIAL: Final = AttemptId(task="sandbox", epoch=0, sidecar="trial", boot=0)


class Level(StrEnum):
    """How well programs are kept in, best first."""

    BUBBLEWRAP = "bubblewrap"
    LANDLOCK = "landlock"
    SEATBELT = "seatbelt"
    NONE = "none"
    UNSAFE = "unsafe"


_USUAL: Final = [Level.SEATBELT] if sys.platform == "darwin" else [Level.BUBBLEWRAP, Level.LANDLOCK]


class Sandbox:
    """How this sidecar confines what it runs.

    Attributes:
        level: what holds here. ``NONE``: nothing can be confined, so nothing is run; ``UNSAFE``: the owner wants it so.
        why: of ``NONE``, the reasons.
        egress: the proxy for work that may reach listed names.
        starts_bare: programs are started by a file that is made for each (``starter.py``), not by an interpreter.
    """

    def __init__(
        self,
        processes: Processes,
        state: Path,
        rules: Rules,
        level: Level = Level.UNSAFE,
        *,
        way_out: Egress | None = None,
    ) -> None:
        self._processes, self.rules, self.level = processes, rules, level
        self.why = ""
        self._host = look(state, processes.path, [_PYTHON])
        self._scratch = state / "scratch"
        self._groups = Groups(rules.limits)
        self._entered: dict[AttemptId, list[Group]] = {}
        self.egress = way_out or Egress(Allowed(rules.domains))
        self.starts_bare = sys.platform == "linux" and platform.machine() == starter.MACHINE

    @property
    def has_egress(self) -> bool:
        """Whether work reaches the names that the owner has listed: only from a network of its own."""
        return bool(self.rules.domains) and self.has_doors

    @property
    def has_groups(self) -> bool:
        """Whether limits hold for all programs of an attempt together, not for each by itself."""
        return self._groups.works

    async def find(self, wanted: str) -> Level:
        """Find out by trying what can be done here, and do that from now on.

        Args:
            wanted: ``auto`` or the name of a level.
        """
        levels = _USUAL if wanted == "auto" else [Level(wanted)]
        reasons = []
        if wanted != Level.UNSAFE:
            await asyncio.to_thread(self._groups.find)
        for self.level in levels:
            why = "" if self.level is Level.UNSAFE else await self._try()
            if why and self.starts_bare:
                self.starts_bare = False  # it may be that files of ours in memory are not run here
                why = await self._try()
            if why and self.has_groups:
                self._groups.works = False  # it may be these that do not work as they should
                why = await self._try()
            if not why:
                break
            reasons.append(f"{self.level}: {why}")
        else:
            self.level, self.why = Level.NONE, "; ".join(reasons)
            log.error("sandbox_missing", why=self.why, next="no commands run here; install bubblewrap")
        if self.level is Level.UNSAFE:
            log.warning("sandbox_off", next="work has all rights of this user: sandbox = 'auto' confines it")
        return self.level

    @property
    def has_doors(self) -> bool:
        """Whether programs have a network of their own, in which something can be opened for them."""
        return self.level is Level.BUBBLEWRAP and not self.rules.network

    @property
    def opens_ports(self) -> bool:
        """Whether a program can be a server to others that it has started."""
        return self.level in {Level.BUBBLEWRAP, Level.UNSAFE} or (self.level is not Level.NONE and self.rules.network)

    def cell(self, attempt: AttemptId, place: Place, *doors: Door) -> "Cell":
        """The cell of an attempt, at the place where it works; makes its scratch directories.

        Args:
            attempt, place: whose it is, and where.
            doors: what its programs reach besides, if they have a network of their own.
        """
        for folder in (place.tmp, place.home):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        doors = (*((self.egress,) if self.has_egress else ()), *(doors if self.has_doors else ()))
        return Cell(self, self._processes, attempt, place, doors)

    def group(self, attempt: AttemptId) -> Group | None:
        """The control group of an attempt, made when it is first asked for; ``None`` where there are none.

        Raises:
            SandboxFailed: it could be made when we looked for it, and now it cannot.
        """
        if not self._groups.works:
            return None
        groups, enclosed = self._entered.setdefault(attempt, []), self._processes.enclosed
        if not groups or attempt not in enclosed:  # ending what was in it has used it up
            try:
                groups.append(self._groups.make())
            except OSError as exc:
                raise SandboxFailed(f"its control group: {exc}") from exc
            enclosed[attempt] = tuple(map(str, groups[-1].folders))
            self._guarded(Guard.watch, groups[-1])
        return groups[-1]

    def _guarded(self, tell: Callable[[Guard, str], None], group: Group) -> None:
        if (guard := self._processes.guard) is not None:
            for folder in group.folders:
                tell(guard, str(folder))

    async def close(self, attempt: AttemptId) -> None:
        """Leave nothing of the attempt's control group; after all its processes are ended."""
        self._processes.enclosed.pop(attempt, None)
        for group in self._entered.pop(attempt, ()):
            await group.close()
            self._guarded(Guard.forget, group)

    async def _try(self) -> str:
        """Run nothing at all in a cell; why that failed, empty if it did not."""
        if self.level is Level.LANDLOCK and (known := landlock.version()) < landlock.LEAST:
            return f"the kernel has version {known} of Landlock, {landlock.LEAST} is needed"
        scratch = self._scratch / "trial"
        place = Place(scratch / "work", scratch)
        place.workspace.mkdir(parents=True, exist_ok=True)
        try:
            outcome = await self.cell(_TRIAL, place).run(["true"], timeout_s=30.0)
        except SandboxFailed as exc:
            return exc.reason
        finally:
            await self._processes.end_attempt(_TRIAL)
            await self.close(_TRIAL)
        return "" if outcome.exit_code == 0 else f"exit code {outcome.exit_code}: {outcome.output.strip()[-300:]}"

    def _bubblewrap(self) -> str:
        # Where work can put nothing: a part of the search path that is not absolute is looked for in its workspace.
        folders = [each for each in self._processes.path.split(os.pathsep) if Path(each).is_absolute()]
        found = shutil.which(bubblewrap.PROGRAM, path=os.pathsep.join(folders) or os.devnull)
        if found is None:
            raise SandboxFailed(f"{bubblewrap.PROGRAM}: command not found")
        return found

    def enclose(self, place: Place) -> tuple[list[str], dict[str, Any], dict[str, str]]:
        """For a program at ``place``: what the launcher is started through and ordered, and the program's variables.

        Raises:
            SandboxFailed: there is no bubblewrap.
        """
        seen, network = view(place, self.rules, self._host), self.rules.network
        isolated = self.level is Level.BUBBLEWRAP
        orders: dict[str, Any] = {
            "limits": self._limits(isolated=isolated),
            "filter": b"",
            "handled": 0,
        }
        if sys.platform == "linux":
            families = seccomp.families(isolated=isolated, network=network)
            orders["filter"] = seccomp.program(platform.machine(), families, isolated=isolated)
            orders |= _landlock(seen, isolated=isolated, network=network)
        home = {"HOME": str(place.home)}
        if isolated:
            argv = bubblewrap.command(self._bubblewrap(), seen, place, network=network)
            return [*argv], orders, home | {"TMPDIR": _TMP}
        through = seatbelt.command(seen, network=network) if self.level is Level.SEATBELT else []
        return [*through], orders, home | {"TMPDIR": str(place.tmp)}

    def _limits(self, *, isolated: bool) -> list[tuple[int, int]]:
        limits = self.rules.limits
        found = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, limits.file_bytes)]
        found.append((resource.RLIMIT_NOFILE, limits.open_files))
        if isolated:
            # Counted in each namespace for itself; outside it would count all that this user runs.
            found.append((resource.RLIMIT_NPROC, limits.processes))
        # Not the address space: interpreters and drivers reserve far more of it than they use.
        return found if self.has_groups else [*found, (resource.RLIMIT_DATA, limits.memory_bytes)]


class Cell:
    """Where the programs of one attempt run; made by :meth:`Sandbox.cell`.

    Attributes:
        workspace: where each of them starts.
        attempt: whose they are.
        secrets: variables that all of them get, and nobody else.
    """

    @property
    def level(self) -> Level:
        """How well they are kept in."""
        return self._sandbox.level

    @property
    def opens_ports(self) -> bool:
        """Whether a program can be a server to others that it has started."""
        return self._sandbox.opens_ports

    @property
    def home(self) -> Path:
        """What its programs take for home."""
        return self._place.home

    def __init__(
        self, sandbox: Sandbox, processes: Processes, attempt: AttemptId, place: Place, doors: tuple[Door, ...] = ()
    ) -> None:
        self._sandbox, self._processes, self._place, self._doors = sandbox, processes, place, doors
        self.attempt, self.workspace = attempt, place.workspace
        self.secrets: Mapping[str, str] = _NOTHING
        self._enclosed: tuple[list[str], dict[str, Any], dict[str, str]] | None = None
        self._walls: starter.Walls | None = None

    async def run(
        self,
        command: str | Sequence[str],
        *,
        env: Mapping[str, str] = _NOTHING,
        timeout_s: float | None = None,
        on_output: OnOutput | None = None,
        stdin: bytes | int | None = None,
        max_output_bytes: int = MAX_OUTPUT_BYTES,
    ) -> ProcessOutcome:
        """As :meth:`sidecar.process.Processes.run`, in the workspace and confined.

        ``env`` reaches the program alone, never what confines it. What a program leaves in the background ends with it
        where it has a process table of its own.

        Raises:
            SandboxFailed: the program could not be confined, so it has not run.
            CannotStart, LeaseOver: as there.
        """
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        level = self._sandbox.level
        if level is Level.NONE:
            raise SandboxFailed(self._sandbox.why)
        async with contextlib.AsyncExitStack() as stack:
            fds: tuple[int, ...] = ()
            ready, group, before = -1, None, Counted()
            outer: Mapping[str, str] = {**self.secrets, **env}
            if level is not Level.UNSAFE:
                if group := self._sandbox.group(self.attempt):
                    fds, before = stack.enter_context(group.doors()), group.counted()
                # The same for all programs of an attempt: its place does not change, and looking costs.
                self._enclosed = self._enclosed or self._sandbox.enclose(self._place)
                through, orders, ours = self._enclosed
                orders = orders | {"argv": argv, "groups": fds, "doors": ()}
                for door in self._doors:
                    line = await stack.enter_async_context(door.line())
                    orders["doors"] += ((line, door.port),)
                    ours, fds = {**ours, **door.variables}, (*fds, line)
                # What confines starts with our variables alone: others could name what it loads, outside of the walls.
                orders["env"], outer = _encoded(argv, {**ours, **outer}), _NOTHING
                in_memory = self._sandbox.starts_bare or bool(self.secrets)  # which no file on a disk may hold
                given, said, ready = stack.enter_context(_lines(in_memory=in_memory))
                argv = [*through, *self._started(orders, given, said)]
                fds = (given, said, *fds)
            outcome = await self._processes.run(
                argv,
                attempt=self.attempt,
                cwd=self.workspace,
                env=outer,
                timeout_s=timeout_s,
                on_output=on_output,
                stdin=stdin,
                max_output_bytes=max_output_bytes,
                fds=fds,
            )
            # Whoever was ended by us before it began is no failure of the sandbox.
            if ready >= 0 and outcome.exit_code is not None and not _is_ready(ready):
                raise SandboxFailed(outcome.output.strip()[-500:] or f"exit code {outcome.exit_code}")
        if group is None:
            return outcome
        counted = group.counted()
        return replace(
            outcome,
            oom_kills=outcome.oom_kills + counted.oom_kills - before.oom_kills,
            refused_forks=outcome.refused_forks + counted.refused_forks - before.refused_forks,
        )

    def _started(self, orders: dict[str, Any], given: int, said: int) -> list[str]:
        """Write what the launcher needs into ``given``; the command line by which it starts there."""
        if not self._sandbox.starts_bare:
            os.write(given, marshal.dumps((_launcher(), orders)))
            os.lseek(given, 0, os.SEEK_SET)
            return [*_BARE, str(given), str(said)]
        if self._walls is None:
            self._walls = starter.walls(orders, starter.bounds(orders["limits"]))
        env = _encoded((), self._processes.variables(self.attempt))
        marks = {name: value for name, value in env.items() if name.startswith(b"AGENTCOM_")}
        if self.level is Level.BUBBLEWRAP:
            env[b"PWD"] = os.fsencode(self.workspace)
        os.write(given, starter.starter(self._walls, orders, env | orders["env"] | marks, given, said))
        return [f"/proc/self/fd/{given}"]

    async def clear(self) -> None:
        """End all that the programs of the attempt have left running.

        To be called before the host looks at the files, and between programs that must not change one another's: where
        there is no process table of their own, what runs in the background lives until then.
        """
        await self._processes.end_attempt(self.attempt)
        await self._sandbox.close(self.attempt)


def _encoded(argv: Sequence[str], env: Mapping[str, str]) -> dict[bytes, bytes]:
    """Variables as the system takes them.

    Raises:
        CannotStart: it does not take them, or a word of the command.
    """
    try:
        found = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
        texts = b"".join([*map(os.fsencode, argv), *found, *found.values()])
    except UnicodeEncodeError as exc:
        raise CannotStart(argv[0], "its words or its environment are no text", FailureClass.INPUT) from exc
    if b"\0" in texts or any(b"=" in name or not name for name in found):
        why = "its words or its environment hold a NUL byte or a name that is none"
        raise CannotStart(argv[0], why, FailureClass.INPUT)
    return found


@functools.cache
def _launcher() -> CodeType:
    """The launcher, compiled once for all commands: it is run by the interpreter that we are."""
    return compile(_LAUNCHER.read_bytes(), _LAUNCHER.name, "exec", dont_inherit=True, optimize=2)


@contextlib.contextmanager
def _lines(*, in_memory: bool) -> Iterator[tuple[int, int, int]]:
    """Descriptors: a file for the orders, the pipe for the launcher's word, and our end of it."""
    with contextlib.ExitStack() as stack:
        if sys.platform == "linux" and in_memory:
            try:
                given = os.memfd_create("agentcom", os.MFD_CLOEXEC)
            except OSError as exc:
                raise SandboxFailed(f"a file in memory: {exc.strerror}") from exc
            stack.callback(os.close, given)
        else:
            given = stack.enter_context(tempfile.TemporaryFile()).fileno()
        ready, said = os.pipe()
        stack.callback(os.close, ready)
        stack.callback(os.close, said)
        os.set_blocking(ready, False)
        yield given, said, ready


def _is_ready(ready: int) -> bool:
    try:
        return os.read(ready, 1) == b"1"
    except BlockingIOError:
        return False


def _landlock(seen: View, *, isolated: bool, network: bool) -> dict[str, Any]:
    """The orders for Landlock; inside namespaces it is the second wall and looks at writing, signals and sockets."""
    known = landlock.version()
    every = landlock.accesses(known)
    read = ["/"] if isolated else [*map(str, without(seen.read, seen.hidden)), *landlock.PROC]
    write = [*map(str, seen.write), "/tmp", "/var/tmp"] if isolated else [*map(str, without(seen.write, seen.hidden))]  # noqa: S108 - inside, its own
    devices = (
        ["/dev"] if isolated else [f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")]
    )
    return {
        "handled": every,
        "scoped": landlock.scopes(known),
        "network": 0 if isolated or network else landlock.ports(known),
        "paths": [
            *((path, landlock.READ) for path in read),
            *((path, landlock.DEVICES) for path in [*devices, *map(str, seen.devices)]),
            *((path, every) for path in write),
        ],
    }

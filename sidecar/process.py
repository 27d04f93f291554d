"""Starts the child processes of attempts and ends them, whole tree.

Holds which processes run for which attempt; refuses to leave any behind. Every child gets its own session, and an
environment of allowed variables plus the marks of its attempt. After :func:`become_subreaper` (Linux) whatever a child
abandons is handed to this process, which so finds even what left its session and scrubbed its environment. The callers
are the executors, the checks and git (:mod:`sidecar.git`). One program is :mod:`sidecar.child`; the search for
processes and the helper that outlives us are :mod:`sidecar.guard`.

Rules for the rest of the sidecar: a child process is started here or not at all (with ``adopts_orphans`` a child of
ours in a foreign session that is not known here counts as abandoned), and an attempt ends with
:meth:`Processes.end_attempt`.
"""

import asyncio
import contextlib
import ctypes
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import IO, Final

import structlog

from protocol.limits import MAX_OUTPUT_BYTES
from protocol.model import AttemptId
from sidecar import guard as search
from sidecar.cgroups import Counters
from sidecar.child import Child, NotThere, OnOutput, Tail, start
from sidecar.environment import DEFAULT_PATH
from sidecar.guard import Guard
from sidecar.tasks import uninterrupted

log = structlog.get_logger(__name__)

GRACE_S: Final = 2.0
"""Between SIGTERM and SIGKILL."""
CHASES: Final = 200
"""How often the adopted are looked through before others get their turn."""
SETTLES: Final = 50
"""Milliseconds that a namespace gets to end with its program."""
RUNS_TAGGED: Final = 1 << 14
"""Runs of one attempt that can be told apart; later ones share their numbers."""
DRAIN_S: Final = 2.0
"""How long output is still read after the program itself has exited: whoever holds the pipe longer is background work,
which goes on without it."""
_PR_SET_CHILD_SUBREAPER: Final = 36
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ProcessOutcome:
    """How a run ended.

    ``exit_code`` is ``None`` if we ended it, negative if it died of that signal on its own, 127 if there is no such
    program; ``output`` is the tail of stdout and stderr as they came, ``output_bytes`` counts all of them. The kernel
    counts ``oom_kills`` and ``refused_forks`` among us and our children meanwhile.
    """

    exit_code: int | None
    timed_out: bool
    output: str
    output_bytes: int
    seconds: float
    oom_kills: int = 0
    refused_forks: int = 0


def become_subreaper() -> bool:
    """From now on, processes that our children abandon become our children; called once by the app at start.

    Returns:
        Whether the system can do that (Linux); pass it to ``Processes(adopts_orphans=...)``.
    """
    if not search.LINUX:
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def cookie(attempt: AttemptId) -> str:
    """Value of ``AGENTCOM_ATTEMPT`` in every process of ``attempt``."""
    return f"{attempt.sidecar}/{attempt.boot}/{attempt.task}/{attempt.epoch}"


class Processes:
    """Starts child processes of attempts and ends them, whole tree.

    Args:
        base_env: what every child's environment starts from, see :func:`sidecar.environment.minimal_env`.
        guard: the helper that ends our children should we be killed.
        adopts_orphans: :func:`become_subreaper` succeeded, so abandoned processes come to us and are reaped here.
        grace_s: seconds between SIGTERM and SIGKILL.
        drain_s: seconds that output is read after a program has exited while somebody else still holds its pipe.
        check: asked before every start, raises if nothing may happen for this attempt any more.
    """

    def __init__(
        self,
        *,
        base_env: Mapping[str, str],
        guard: Guard | None = None,
        adopts_orphans: bool = False,
        grace_s: float = GRACE_S,
        drain_s: float = DRAIN_S,
        check: Callable[[AttemptId], None] = lambda _attempt: None,
    ) -> None:
        self._base_env, self._check, self._counters = dict(base_env), check, Counters()
        self.guard = guard
        self._adopts_orphans = adopts_orphans
        self._grace_s, self._drain_s = grace_s, drain_s
        self._mark = guard.mark if guard else secrets.token_hex(8)
        self._tags = search.tags_of(self._mark)
        self._tagged: dict[AttemptId, int] = {}
        self._untagged = 0
        """Attempts that are over: their numbers are used again only when all others have been."""
        self._runs = 0
        self._children: dict[int, Child] = {}
        self._hurried: set[AttemptId] = set()
        self.enclosed: dict[AttemptId, tuple[str, ...]] = {}
        """Directories of the control groups that hold all of an attempt; who ends all of it uses them up."""
        self._left: dict[AttemptId, set[int]] = {}
        """Attempts that ran something, and their sessions that still had members when the run was over."""
        own = search.status(os.getpid()) if search.LINUX else None
        self._since = own[1].started if own else 0.0

    @property
    def path(self) -> str:
        """The search path of all that is started here."""
        return self._base_env.get("PATH", DEFAULT_PATH)

    async def run(  # noqa: PLR0913 - all but the first three are choices of single callers
        self,
        command: str | Sequence[str],
        *,
        attempt: AttemptId,
        cwd: Path,
        env: Mapping[str, str] = _NOTHING,
        timeout_s: float | None = None,
        on_output: OnOutput | None = None,
        stdin: bytes | int | None = None,
        max_output_bytes: int = MAX_OUTPUT_BYTES,
        fds: tuple[int, ...] = (),
    ) -> ProcessOutcome:
        """Run a program (or, given a string, a shell command) to its end.

        Work that it leaves in the background stays until :meth:`end_attempt`. When ``timeout_s`` is over, everything
        this run started is ended; when the caller is cancelled, that happens before the error passes on.

        Args:
            command: argument list, or one string for ``/bin/sh -c``.
            attempt: whose process it is; its facts go into the environment as ``AGENTCOM_*``.
            env: added to the base environment.
            on_output: gets ``("stdout" | "stderr", text)`` as it arrives; what it raises ends the run.
            stdin: all that the program can read, or a descriptor of ours that it reads from; nothing if not given.
            max_output_bytes: how much of the output's tail is kept.
            fds: descriptors of ours that the program gets.
        Raises:
            CannotStart: no process could be made of this; a program that does not exist is exit code 127 instead.
            LeaseOver: nothing may happen for this attempt any more.
        """
        self._check(attempt)
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        started, before = time.monotonic(), self._counters.read()
        # From fork to handle there is no await, so no cancellation can come between and lose the process.
        try:
            child = self._start(argv, attempt, cwd, env, stdin, Tail(max_output_bytes), on_output, fds)
        except NotThere as exc:
            return ProcessOutcome(exc.exit_code, timed_out=False, output=exc.said, output_bytes=0, seconds=0.0)
        in_time = ended = False
        try:
            in_time = await child.follow(timeout_s)
            if in_time:
                await child.drain(self._drain_s)
                child.check_pumps()
            ended = in_time
        finally:
            await uninterrupted(self._finish(child, end=not ended))
        code, counted = None if child.ended_by_us else child.process.returncode, self._counters.read()
        return ProcessOutcome(
            exit_code=code,
            timed_out=not in_time,
            output=child.tail.text(),
            output_bytes=child.tail.seen_bytes,
            seconds=time.monotonic() - started,
            oom_kills=counted.oom_kills - before.oom_kills,
            refused_forks=counted.refused_forks - before.refused_forks,
        )

    async def end_attempt(self, attempt: AttemptId) -> int:
        """End every process of the attempt that is left, also what left its session; the number of processes ended.

        The last call for an attempt, after its workspace is closed. Cheap if the attempt started nothing.
        """
        try:
            return await uninterrupted(self._end_attempt(attempt)) if attempt in self._left else 0
        finally:
            self._hurried.discard(attempt)

    def hurry(self, attempt: AttemptId) -> None:
        """Until :meth:`end_attempt` has returned, the attempt's processes are killed without grace.

        For work that the hub may give to somebody else at any moment: two at one task are worse than an untidy end, and
        the grace of each step could add up to more than the lease leaves. Ends what is being ended already, too.
        """
        self._hurried.add(attempt)

    async def end_earlier(self, attempts: Collection[AttemptId]) -> int:
        """Kill what an earlier start left of these attempts, should its helper have been killed with it."""
        count = 0
        for attempt in attempts:
            self.hurry(attempt)
            count += await self._end(set(), (search.attempt_mark(cookie(attempt)),), attempt, since=0.0)
            self._hurried.discard(attempt)
        return count

    async def _end_attempt(self, attempt: AttemptId) -> int:
        runs = [child for child in self._children.values() if child.attempt == attempt]
        count = 0
        if runs or not self._adopts_orphans or self._orphans():
            for child in runs:
                child.ended_by_us = True
            marks = (search.attempt_mark(cookie(attempt)), search.run_mark(f"{self._mark}."))
            sessions = self._sessions_left(attempt) | {child.pid for child in runs}
            groups = self.enclosed.pop(attempt, ())
            count = await self._end(sessions, marks, attempt, tags=self._tags_of(attempt), groups=groups)
        for session in self._left.pop(attempt, set()):
            self._forget(session)
        if self._adopts_orphans:
            count += await self._end_strays(attempt)
            self._reap()
        if self._tagged.pop(attempt, None) is not None:
            self._untagged += 1
        if count:
            log.info("attempt_processes_ended", task_id=attempt.task, epoch=attempt.epoch, count=count)
        return count

    def _start(
        self,
        argv: list[str],
        attempt: AttemptId,
        cwd: Path,
        env: Mapping[str, str],
        stdin: bytes | int | None,
        tail: Tail,
        on_output: OnOutput | None,
        fds: tuple[int, ...],
    ) -> Child:
        facts = self._facts(attempt)
        self._runs += 1
        run, tags = facts["AGENTCOM_RUN"], self._tags_of(attempt)
        tag = tags[self._runs % len(tags)] if tags else 0
        with contextlib.ExitStack() as stack:
            source: IO[bytes] | int = subprocess.DEVNULL
            if isinstance(stdin, int):
                source = stdin
            elif stdin is not None:
                # A file, not a pipe: nobody has to feed it, and a program that does not read it costs nothing.
                source = stack.enter_context(tempfile.TemporaryFile())
                source.write(stdin)
                source.seek(0)
            process = start(argv, cwd, self._base_env | dict(env) | facts, source, tag, fds)
        assert process.stdout is not None, "stdout was asked for as a pipe"
        assert process.stderr is not None, "stderr was asked for as a pipe"
        pipes = (("stdout", process.stdout), ("stderr", process.stderr))
        for _, pipe in pipes:
            os.set_blocking(pipe.fileno(), False)
        child = Child(attempt, run, tag, process, pipes, tail, on_output, time.monotonic())
        self._children[child.pid] = child
        self._left.setdefault(attempt, set())
        if self.guard:
            self.guard.watch(child.pid)
        return child

    def _facts(self, attempt: AttemptId) -> dict[str, str]:
        return {
            "AGENTCOM_SIDECAR": attempt.sidecar,
            "AGENTCOM_TASK": attempt.task,
            "AGENTCOM_EPOCH": str(attempt.epoch),
            "AGENTCOM_ATTEMPT": cookie(attempt),
            "AGENTCOM_RUN": f"{self._mark}.{self._runs + 1}",
        }

    def variables(self, attempt: AttemptId) -> dict[str, str]:
        """What the very next program that is started here has in its environment, besides what it is given."""
        return self._base_env | self._facts(attempt)

    def owns(self, pid: int) -> bool:
        """Whether a process belongs to an attempt of ours, whichever."""
        return search.tag(pid) in self._tags if self._tags else pid in self._children

    def finder(self, attempt: AttemptId) -> Callable[[], list[int]]:
        """Finds the processes of an attempt when it is called, in any thread: it takes some milliseconds."""
        runs = {child.pid for child in self._children.values() if child.attempt == attempt}
        marks = (search.attempt_mark(cookie(attempt)), search.run_mark(f"{self._mark}."))
        tags = self._tags_of(attempt) if attempt in self._tagged else ()
        sessions = runs | self._sessions_left(attempt)
        return partial(search.find, sessions=sessions, marks=marks, tags=tags, since=self._since)

    def _tags_of(self, attempt: AttemptId) -> range:
        """The numbers of an attempt, one a run, which everything carries that descends from it."""
        number = self._tagged.setdefault(attempt, len(self._tagged) + self._untagged)
        first = number * RUNS_TAGGED % len(self._tags) if self._tags else 0
        return self._tags[first : first + RUNS_TAGGED]

    async def _finish(self, child: Child, *, end: bool) -> None:
        """Leave nothing of a run that nobody holds: processes (with ``end``), pipes, the zombie."""
        if end:
            child.ended_by_us = child.process.returncode is None
            groups = self.enclosed.pop(child.attempt, ()) if self._is_all(child) else ()
            marks = (search.run_mark(child.run),)
            await self._end({child.pid}, marks, child.attempt, tags={child.tag} - {0}, groups=groups)
            # The search ends when nothing is left alive, so this waits only for what no signal reaches.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.exited(), search.KILL_LIMIT_S)
        await child.drain(0.0 if child.attempt in self._hurried else self._drain_s)
        del self._children[child.pid]
        await self._settle(child.pid)
        if search.has_members(child.pid):
            self._left.setdefault(child.attempt, set()).add(child.pid)
        else:
            self._forget(child.pid)
        if self._adopts_orphans:
            self._reap()

    def _is_all(self, child: Child) -> bool:
        """Whether its attempt runs nothing else."""
        others = (other.attempt for other in self._children.values() if other is not child)
        return child.attempt not in others and not self._left.get(child.attempt)

    async def _settle(self, session: int) -> None:
        """Wait a moment for what ends with a program by itself: the first process of its namespace is ours now.

        It takes all others with it and is gone in a millisecond or two; a search for it would cost more.
        """
        for _ in range(SETTLES if self._adopts_orphans else 0):
            if not any(seen.session == session and search.is_wall(seen.pid) for seen in self._orphans()):
                return
            await asyncio.sleep(0.001)

    async def _end(
        self,
        sessions: set[int],
        marks: tuple[bytes, ...],
        attempt: AttemptId,
        since: float | None = None,
        *,
        tags: Collection[int] = (),
        groups: Collection[str] = (),
    ) -> int:
        """SIGTERM, grace, SIGKILL, until a search finds nothing; the number of processes that got a signal.

        A search costs some milliseconds, so it is repeated at growing intervals, and only when the attempt's control
        group is empty, which costs nothing to see. While new processes keep appearing after the grace (something that
        forks to escape) it is repeated at once. What is a new process at every moment (each forks the next and exits)
        is never seen by a search: in a control group it starts nothing more, and elsewhere each of them is handed to us
        when the one before has gone: :meth:`_chase` meets it there.
        """
        ended: set[int] = set()
        begun, pause_s = time.monotonic(), 0.002
        since = self._since if since is None else since
        look = partial(search.find, sessions=sessions, marks=marks, tags=tags, since=since)
        while (left := {*search.members(groups)} or {*look(spare=self._spared(sessions))}) or self._chase(tags):
            passed_s = time.monotonic() - begun
            if passed_s > self._grace_s + search.KILL_LIMIT_S:
                log.error("processes_unkillable", pids=sorted(left)[:20], count=len(left), next="left alone")
                break
            late = passed_s >= self._grace_s or attempt in self._hurried or not left
            if late:
                search.shut(groups)
            for pid in left if late else {pid for pid in left - ended if not search.is_wall(pid)}:
                search.send(pid, signal.SIGKILL if late else signal.SIGTERM)
            fresh = left - ended
            ended |= left
            pause_s = 0.0 if late and fresh else min(max(pause_s, 0.002) * 2, 0.1)
            await asyncio.sleep(pause_s)
        return len(ended)

    def _chase(self, tags: Collection[int]) -> int:
        """Kill and reap what carries one of these tags among our adopted children, as fast as they come; how many."""
        met = 0
        for _ in range(CHASES if self._adopts_orphans and tags else 0):
            known, found = self._spared(set()), 0
            for pid in search.children():
                if pid not in known and search.tag(pid) in tags:
                    search.send(pid, signal.SIGKILL)
                    found += 1
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)
            if not found:
                break
            met += found
        return met

    async def _end_strays(self, attempt: AttemptId) -> int:
        """End what was abandoned to us without any mark: whoever took them all off on purpose has no right to go on.

        Where nothing is tagged, a process may have lost its mark by chance: there we wait until it can be nobody's.
        """
        if not self._tags and (self._children or any(self._left.values())):
            return 0
        others = {session for sessions in self._left.values() for session in sessions}
        strays = {
            seen.pid: seen
            for seen in self._orphans()
            if seen.session not in others
            and search.tag(seen.pid) not in self._tags
            and not search.carries(seen.pid, (search.run_mark(f"{self._mark}."),))
        }
        return await self._end({seen.session for seen in strays.values()}, (), attempt) if strays else 0

    def _sessions_left(self, attempt: AttemptId) -> set[int]:
        """Sessions of ended runs. A live process with a session's number has got it anew: the number was used again."""
        return {session for session in self._left.get(attempt, set()) if not search.is_process(session)}

    def _spared(self, ending: set[int]) -> set[int]:
        helper = self.guard.pid if self.guard else None
        others = {pid for pid in self._children if pid not in ending}
        return others | ({helper} if helper else set())

    def _orphans(self) -> list[search.Seen]:
        """Children of ours that we did not start, alive or not: adopted from programs that abandoned them."""
        return [seen for state, seen in self._adopted() if state not in "ZX"]

    def _adopted(self) -> list[tuple[str, search.Seen]]:
        own = os.getsid(0)
        known = self._spared(set())
        found = (search.status(pid) for pid in search.children() if pid not in known)
        # Whatever descends from our children is in a session of its own making; what shares ours is somebody else's.
        return [entry for entry in found if entry and entry[1].session != own]

    def _reap(self) -> None:
        for state, seen in self._adopted():
            if state == "Z":
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(seen.pid, os.WNOHANG)

    def _forget(self, session: int) -> None:
        if self.guard:
            self.guard.forget(session)

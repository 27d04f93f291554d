"""What a check gets, and how its outcome becomes a finding.

A check never raises for what it finds: a command that is missing or runs too long is a failed finding that says so.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from protocol.checks import Check
from protocol.limits import MAX_FINDING_BYTES
from protocol.model import Finding
from sidecar.core.coverage import Coverage
from sidecar.core.diff import Change
from sidecar.core.marks import Mark
from sidecar.core.outcome import tail
from sidecar.core.tallies import Tally
from sidecar.errors import CannotStart
from sidecar.sandbox.cell import Cell

MAX_READ_BYTES: Final = 1 << 20
"""The end of a command's output in which its tests are looked for."""

Ask = Callable[[str, str, float], Awaitable[tuple[str, str]]]
"""Given what a model is told first, the question, and seconds: the model's name, and what it says."""

_NAME_CHARS: Final = 80
_NO_TESTS: Final = 5
_MEANINGS: Final = {
    0: "",
    126: "exit code 126: a file is there but may not be executed",
    127: "exit code 127: a command is not installed here, or its name is misspelt",
}


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a check runs, and how long it may: ``timeout_s`` is what is left for it at most.

    Attributes:
        uncommitted: tells the paths with changes that no commit holds.
        changes: tells what differs from the commit that the work began from.
        marks: tells what lies at each path that differs.
        history: tells what the commits of the work have added, each for itself; they are delivered with it.
        before: tells what a test command said at that commit, ``None`` if it cannot be had; ``TimeoutError``: not in
            this time.
        covered_before: tells in the same way how much of the code a command ran, by a report or (empty) its output.
        plugins: programs of plug-in checks, by name.
        task: what the work was to do.
        ask: asks another model than those that have done the work; ``None``: there is none.
        has_base: whether the work began from a commit; else it began with nothing.

    The first four raise :class:`WorkFailed` if they cannot tell.
    """

    cell: Cell
    timeout_s: float
    log: Callable[[str, str], None]
    uncommitted: Callable[[], Awaitable[tuple[str, ...]]]
    changes: Callable[[], Awaitable[tuple[Change, ...]]]
    marks: Callable[[], Awaitable[Mapping[str, Mark]]]
    history: Callable[[], Awaitable[tuple[Change, ...]]]
    before: Callable[[str, float], Awaitable[Tally | None]]
    covered_before: Callable[[str, str, float], Awaitable[Coverage | None]]
    has_base: bool = True
    plugins: Mapping[str, Sequence[str]] = field(default_factory=dict)
    task: str = ""
    ask: Ask | None = None

    def with_time(self, timeout_s: float) -> "Ground":
        """The same with another limit."""
        return replace(self, timeout_s=timeout_s)


def env_of(cell: Cell) -> dict[str, str]:
    """What the commands of checks see: a home that the work has never seen, no packages from one, and no caches.

    A cache beside its source is believed by Python whatever the source says; so it looks for them elsewhere.
    """
    return {"HOME": str(cell.home), "PYTHONNOUSERSITE": "1", "PYTHONPYCACHEPREFIX": str(cell.home / "pycache")}


def kind_of(check: Check) -> str:
    """The ``type`` of a check, as submitters write it."""
    return str(check.__struct_config__.tag)


def name_of(check: Check) -> str:
    """The name that the submitter gave, else the type with what it looks at."""
    subject = next(filter(None, (getattr(check, field, "") for field in ("path", "url", "plugin", "command"))), "")
    shown = subject if len(subject) <= _NAME_CHARS else subject[: _NAME_CHARS - 3] + "..."
    return check.name or (f"{kind_of(check)}: {shown}" if shown else kind_of(check))


def finding(check: Check, *, passed: bool, detail: str = "", seconds: float = 0.0) -> Finding:
    """The finding of a check that ran no command of its own."""
    return Finding(name=name_of(check), type=kind_of(check), passed=passed, detail=detail, seconds=seconds)


def time_for(check: Check, ground: Ground) -> float:
    """Seconds that a check may take: its own limit, and what is left for all of them."""
    return ground.timeout_s if check.timeout_s is None else min(check.timeout_s, ground.timeout_s)


async def run_command(check: Check, command: str, ground: Ground) -> tuple[Finding, str]:
    """The finding of a check that passes if ``command`` exits 0 in time, and the end of all that the command said."""
    return await run_program(check, command, ground, timeout_s=time_for(check, ground))


async def run_program(
    check: Check,
    command: str | Sequence[str],
    ground: Ground,
    *,
    timeout_s: float,
    stdin: bytes | None = None,
    log: Callable[[str, str], None] | None = None,
) -> tuple[Finding, str]:
    """As :func:`run_command`, of any program; ``log`` takes its output instead of that of ``ground``."""
    try:
        outcome = await ground.cell.run(
            command,
            env=env_of(ground.cell),
            timeout_s=timeout_s,
            on_output=log or ground.log,
            stdin=stdin,
            max_output_bytes=MAX_READ_BYTES,
        )
    except CannotStart as exc:
        return finding(check, passed=False, detail=str(exc)), ""
    passed = outcome.exit_code == 0 and not outcome.timed_out
    found = Finding(
        name=name_of(check),
        type=kind_of(check),
        passed=passed,
        detail=f"took longer than {round(timeout_s, 1):g} s and was ended"
        if outcome.timed_out
        else _meaning(outcome.exit_code, check),
        output=tail(outcome.output, MAX_FINDING_BYTES),
        exit_code=outcome.exit_code,
        seconds=outcome.seconds,
    )
    return found, outcome.output


def _meaning(exit_code: int | None, check: Check) -> str:
    """What an exit code says, empty for 0."""
    if exit_code is None:
        return "was ended before it finished"
    if exit_code < 0:
        return f"died of signal {-exit_code}"
    if exit_code == _NO_TESTS and "pytest" in getattr(check, "command", ""):
        return "exit code 5: pytest found no tests"
    return _MEANINGS.get(exit_code, f"exit code {exit_code}")

"""A coding agent of somebody else that this host offers: how it is started, and what it may not do.

Pure; ``sidecar/settings.py`` reads these from the settings file, ``sidecar/executors/acp.py`` runs them. Refuses what
cannot work, all problems at once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from protocol.errors import BadInput, Problem
from protocol.ids import LABEL

NEED: Final = "agent:"
"""What a task needs, followed by the name, to have a certain agent; and the capability of who offers it."""
EXECUTORS: Final = frozenset({"acp"})
"""Executors whose agents ask models through the sidecar where that is open, whatever the task says it needs."""
CLAUDE_SDK: Final = ("claude-agent-sdk",)
"""Stands for the agent that comes as a Python package: ``sidecar/bundled.py`` says how it is started."""
KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "claude": ("claude-agent-acp",),
    "claude-sdk": CLAUDE_SDK,
    "codex": ("codex-acp",),
    "gemini": ("gemini", "--acp"),
    "opencode": ("opencode", "acp"),
    "qwen": ("qwen", "--acp"),
}
"""How agents are started that speak the protocol by themselves; who has them installed need not list them."""
KINDS: Final = frozenset(
    {"read", "edit", "delete", "move", "search", "execute", "think", "fetch", "switch_mode", "other"}
)
"""Kinds of what an agent asks permission for, in the words of the protocol."""
LEAST_SILENCE_S, MOST_SILENCE_S = 1.0, 86_400.0
_MOST_NAME_CHARS: Final = 40


@dataclass(frozen=True, slots=True)
class AgentProgram:
    """One agent.

    ``command`` may be left out for a name of :data:`KNOWN`. ``env`` is added to what its program starts with; nothing
    of it is a secret for the work. Permission is given for whatever the agent asks, within the walls that hold for all
    work, but for the kinds in ``denies``. ``silence_s`` is how long it may say nothing. ``reads`` are directories and
    files of this host that its program needs to see; all work of this sidecar sees them then.

    Raises:
        BadInput: something is wrong with it; every problem is listed.
    """

    name: str
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    denies: tuple[str, ...] = ()
    silence_s: float = 900.0
    reads: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.command and self.name in KNOWN:
            object.__setattr__(self, "command", KNOWN[self.name])
        problems = list(_problems(self))
        if problems:
            raise BadInput(problems, f"agent {self.name!r}")

    @property
    def capability(self) -> str:
        """What tells of it."""
        return f"{NEED}{self.name}"


def wanted_in(needs: tuple[str, ...]) -> tuple[str, ...]:
    """The names of agents among what a task needs."""
    return tuple(need.removeprefix(NEED) for need in needs if need.startswith(NEED))


def usual() -> tuple[AgentProgram, ...]:
    """Those of :data:`KNOWN`, for who lists none."""
    return tuple(AgentProgram(name) for name in KNOWN)


def _problems(program: AgentProgram) -> Iterator[Problem]:
    if not LABEL.fullmatch(program.name) or len(program.name) > _MOST_NAME_CHARS:
        yield Problem("name", f"{program.name[:64]!r} is no label like opencode, at most {_MOST_NAME_CHARS} long")
    if not program.command:
        yield Problem("command", f"is needed for an agent that is none of {', '.join(KNOWN)}: program and arguments")
    yield from _start_problems(program)
    for path in program.reads:
        if not path.startswith("/") or "\0" in path:
            yield Problem("reads", f"{path[:100]!r} is no path from the root")
    for kind in program.denies:
        if kind not in KINDS:
            yield Problem("denies", f"{kind[:64]!r}; any of {', '.join(sorted(KINDS))}")
    if not LEAST_SILENCE_S <= program.silence_s <= MOST_SILENCE_S:
        yield Problem("silence_s", f"{program.silence_s:g}; between {LEAST_SILENCE_S:g} and {MOST_SILENCE_S:g} seconds")


def _start_problems(program: AgentProgram) -> Iterator[Problem]:
    if program.command and not program.command[0]:
        yield Problem("command", "its program has no name")
    if any("\0" in part for part in program.command):
        yield Problem("command", "holds a NUL byte")
    for name, value in program.env.items():
        if not name or "=" in name or "\0" in name + value:
            yield Problem("env", f"{name[:64]!r} is no variable")

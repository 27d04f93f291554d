"""An agent as the hub sees it: its states, what it can do, what it holds.

One table holds every change of state. The per-task path reads the table directly; joining, draining and leaving go
through a :mod:`transitions` machine built from the same table (``lifecycle.py``).
"""

from dataclasses import dataclass, field
from typing import Final
from weakref import WeakValueDictionary

from msgspec import Struct

from hub.core.conduct import Conduct
from protocol.loads import Answering
from protocol.machine import HostReport
from protocol.model import AgentState, AttemptState, EndpointReport
from protocol.table import after

OFFLINE, IDLE, ASSIGNED = AgentState.OFFLINE, AgentState.IDLE, AgentState.ASSIGNED
WORKING, BLOCKED, DRAINING = AgentState.WORKING, AgentState.BLOCKED, AgentState.DRAINING

AGENT_EDGES: Final[dict[tuple[AgentState, str], AgentState]] = {
    (OFFLINE, "join"): IDLE,
    (OFFLINE, "join_busy"): WORKING,
    (OFFLINE, "join_draining"): DRAINING,
    (IDLE, "claim"): ASSIGNED,
    (ASSIGNED, "claim"): ASSIGNED,
    (WORKING, "claim"): WORKING,
    (ASSIGNED, "start"): WORKING,
    (WORKING, "start"): WORKING,
    (DRAINING, "start"): DRAINING,
    (ASSIGNED, "free"): IDLE,
    (WORKING, "free"): IDLE,
    (DRAINING, "free"): DRAINING,
    (IDLE, "drain"): DRAINING,
    (ASSIGNED, "drain"): DRAINING,
    (WORKING, "drain"): DRAINING,
    (BLOCKED, "drain"): DRAINING,
    (DRAINING, "drain"): DRAINING,
    (OFFLINE, "drain"): OFFLINE,
    (DRAINING, "resume"): IDLE,
    (DRAINING, "resume_busy"): WORKING,
    (OFFLINE, "resume"): OFFLINE,
    (IDLE, "block"): BLOCKED,
    (BLOCKED, "unblock"): IDLE,
    (IDLE, "lose"): OFFLINE,
    (ASSIGNED, "lose"): OFFLINE,
    (WORKING, "lose"): OFFLINE,
    (BLOCKED, "lose"): OFFLINE,
    (DRAINING, "lose"): OFFLINE,
    (OFFLINE, "lose"): OFFLINE,
}


class Held(Struct, gc=False):
    """An attempt that an agent holds.

    ``lease_until`` is in seconds of the hub's monotonic clock; the counters are the task's before this attempt.
    """

    task: str
    epoch: int
    agent: str
    boot: int
    lease_until: float
    state: AttemptState = AttemptState.ASSIGNED
    retries: int = 0
    infra_failures: int = 0
    max_retries: int = 0
    alone: bool = False
    """Nothing else may run on its agent meanwhile."""
    server: tuple[str, str] | None = None
    """The LLM server that it uses (host and endpoint), if it uses one, with ``model``."""
    model: str = ""
    crowd: int = 0
    """Attempts that had that server when this one began, with it."""
    kind: str = ""
    """Under which name its task teaches (:attr:`hub.core.routing.Requirements.kind`)."""
    repo: str = ""
    """The repository that it works in, as its requirements name it."""
    service_s: float = 0.0
    """How long it was expected to take that server."""
    known_tokens: int = 0
    """Tokens of its prompt that its server was believed to have read before."""
    ends_at: float | None = None
    """When it is expected to have ended, in seconds of the hub's monotonic clock."""
    answer_told_at: float = float("-inf")
    """When an event last told how its model comes along, in seconds of the hub's monotonic clock."""
    turns_told: int = 0
    """Events that have told what its model does."""
    is_committed: bool = False
    """The claim is in the store; until then the assignment has not left."""
    is_charged: bool = True
    """It may have reserved something of a budget."""
    is_proof: bool = False
    """It only runs the checks, on what another attempt has done."""
    log_bytes: int = 0
    """Output taken in from it by this hub; counted here, whatever its sidecar says."""
    log_missing_bytes: int = 0
    """Output that was left out because the disk was behind, and not confessed yet."""


_SAME: Final = WeakValueDictionary[tuple[str, ...], frozenset[str]]()


def same(words: tuple[str, ...]) -> frozenset[str]:
    """These words, one and the same object for all who have them: machines of a fleet can do much the same.

    Kept as long as somebody has them: they come from sidecars, by the thousand if one of them likes.
    """
    found = _SAME.get(words)
    if found is None:
        found = _SAME[words] = frozenset(words)
    return found


@dataclass(slots=True)
class Agent:
    """A named worker identity; ``boot`` tells its starts apart, the highest one counts."""

    name: str
    host: str = ""
    boot: int = 0
    slots: int = 1
    version: str = ""
    capabilities: frozenset[str] = frozenset()
    endpoints: tuple[EndpointReport, ...] = ()
    state: AgentState = OFFLINE
    is_draining: bool = False
    """A person wants it to get no new work; kept over restarts."""
    is_leaving: bool = False
    """It said itself that it takes no new work; forgotten when it introduces itself again."""
    is_behind: bool = False
    """So much of what it was sent has not arrived that more would only wait on the line."""
    seat: int = 0
    """Counts its welcomes over all hubs."""
    hub: int | None = None
    """Boot of the hub that it is at; ``None``: it is at none, as far as is known here."""
    away: frozenset[str] = frozenset()
    """Tasks that it holds at another hub."""
    last_seen_ms: int | None = None
    report: HostReport | None = None
    cramped: str = ""
    """Why its disk cannot hold one more workspace; empty: it can."""
    held: dict[str, Held] = field(default_factory=dict)
    instance: str = ""
    """The state directory that it works from, if it says so: who has the name and another one is somebody else."""
    answering: dict[str, Answering] = field(default_factory=dict)
    """By task: how the answers of models come along that it waits for."""
    alarm: str = ""
    """What is wrong with its identity: another sidecar has come under its name."""
    alarm_ms: int = 0
    boot_at: float = float("-inf")
    """When ``boot`` became known here, in seconds of the hub's monotonic clock."""
    quarantine: str = ""
    """Why it gets no work until a person decides: its key is in use twice."""
    runs_alone: str = ""
    """The task that it holds and that nothing else may run beside, if there is one."""
    conduct: Conduct = field(default_factory=Conduct)
    """How it has kept to the protocol."""
    upgrade: str = ""
    """How far its machine is with another release; empty: nothing is under way."""
    upgrade_failed: str = ""
    """Why the last one came to nothing."""
    last_given: int = 0
    """Number of the last assignment it got, so that the one that waited longest goes first."""

    def began(self, boot: int, now: float) -> None:
        """Its newest start is this one, as far as is known at ``now``."""
        if boot != self.boot:
            self.boot, self.boot_at = boot, now

    def released(self, *, is_away: bool) -> None:
        """A person has put it right: it gets work, and if it is at no hub, any start of it may come."""
        self.quarantine = self.alarm = ""
        if is_away:
            self.boot, self.boot_at = 0, float("-inf")

    def fire(self, event: str) -> None:
        """Change state by the table.

        Raises:
            IllegalTransition: the table has no such edge.
        """
        found = AGENT_EDGES.get((self.state, event))
        self.state = found or after(AGENT_EDGES, f"agent {self.name}", self.state, event)  # which has the words

    @property
    def is_in_service(self) -> bool:
        """Whether it may hold work that starts and ends."""
        return self.state is ASSIGNED or self.state is WORKING or self.state is DRAINING

    @property
    def free_slots(self) -> int:
        """Attempts it could take now."""
        state = self.state  # compared by identity: a set would hash, and hashing a member of an enumeration is slow
        if self.is_leaving or state is OFFLINE or state is DRAINING or state is BLOCKED or self.runs_alone:
            return 0
        if self.is_behind or self.quarantine:
            return 0
        held = len(self.held)
        return 0 if held >= self.slots else self.slots - held  # asked with every commit: max() is slow

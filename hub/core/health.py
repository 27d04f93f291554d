"""How LLM endpoints do: one table of states, and what each thing that is seen of an endpoint makes of its health.

Seen are answers and silence (whoever can reach the endpoint asks it every few seconds), and how work fares there: a 429
or a 5xx sends it into a cooldown for as long as it asks for, else for a time that doubles; after that one request at
a time may try, until one succeeds. Pure: the time is an argument, and so is chance. ``hub/services/health.py`` keeps
the health of each endpoint up, ``hub/core/matching.py`` and ``hub/core/board.py`` ask what it may be given.
"""

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from protocol.endpoints import EndpointState
from protocol.table import after

UNKNOWN, ONLINE, OFFLINE = EndpointState.UNKNOWN, EndpointState.ONLINE, EndpointState.OFFLINE
COOLDOWN, HALF_OPEN = EndpointState.COOLDOWN, EndpointState.HALF_OPEN

ENDPOINT_EDGES: Final[dict[tuple[EndpointState, str], EndpointState]] = {
    (UNKNOWN, "answer"): ONLINE,
    (UNKNOWN, "silence"): OFFLINE,
    (UNKNOWN, "refusal"): COOLDOWN,
    (UNKNOWN, "success"): ONLINE,
    (ONLINE, "answer"): ONLINE,
    (ONLINE, "silence"): OFFLINE,
    (ONLINE, "refusal"): COOLDOWN,
    (ONLINE, "success"): ONLINE,
    (OFFLINE, "answer"): ONLINE,
    (OFFLINE, "answer_in_cooldown"): COOLDOWN,
    (OFFLINE, "silence"): OFFLINE,
    (OFFLINE, "refusal"): OFFLINE,
    (OFFLINE, "success"): ONLINE,
    (COOLDOWN, "answer"): COOLDOWN,
    (COOLDOWN, "silence"): OFFLINE,
    (COOLDOWN, "refusal"): COOLDOWN,
    (COOLDOWN, "success"): COOLDOWN,
    (COOLDOWN, "time"): HALF_OPEN,
    (HALF_OPEN, "answer"): HALF_OPEN,
    (HALF_OPEN, "silence"): OFFLINE,
    (HALF_OPEN, "refusal"): COOLDOWN,
    (HALF_OPEN, "success"): ONLINE,
    (HALF_OPEN, "time"): ONLINE,
}

FIRST_COOLDOWN_S: Final = 5.0
LONGEST_COOLDOWN_S: Final = 300.0
LONGEST_ASKED_S: Final = 3600.0
"""An endpoint that asks for longer is tried again after this: no server keeps work away for days by one header."""
JITTER: Final = 0.25
"""A cooldown lasts up to this share longer than it must, so that not all come back at once."""
TRIAL_S: Final = 300.0
"""A half-open endpoint that was given no work for so long and answers all the time counts as well again."""
MAX_PROBLEM_CHARS: Final = 300
MAX_TOLD: Final = 64
"""Sidecars whose counts are kept with an endpoint; who is left out is counted once more by a hub that starts again."""


class Health(Struct, frozen=True, kw_only=True):
    """How one endpoint does. Times are Unix time in milliseconds."""

    state: EndpointState = UNKNOWN
    since_ms: int = 0
    """When it came into this state."""
    until_ms: int | None = None
    """When the cooldown, or the trial after it, is over."""
    refusals: int = 0
    """Refused requests since the last one that succeeded."""
    problem: str = ""
    """What is wrong, in words; may be set while it is online: an answer that is odd."""
    checked_ms: int | None = None
    """When it was last asked, or last told of."""
    told: tuple[tuple[str, int, int], ...] = ()
    """Sidecars that tell of refusals, with their boot and how many were counted: they say it again to the next hub."""

    @property
    def takes_work(self) -> bool:
        """Whether it may be given work: it answers, or nobody knows, and it is in no cooldown."""
        return self.state not in {OFFLINE, COOLDOWN}

    @property
    def is_on_trial(self) -> bool:
        """Whether it may be given only one request at a time."""
        return self.state is HALF_OPEN


def answered(health: Health, now_ms: int, remark: str = "") -> Health:
    """It was asked and answered in its protocol; ``remark`` tells what was odd about that."""
    is_early = health.state is OFFLINE and health.until_ms is not None and health.until_ms > now_ms
    moved = _moved(health, "answer_in_cooldown" if is_early else "answer", now_ms)
    is_well = moved.state is ONLINE
    problem = remark if is_well else health.problem
    until_ms = None if is_well else health.until_ms
    return replace(moved, problem=problem[:MAX_PROBLEM_CHARS], until_ms=until_ms, checked_ms=now_ms)


def silent(health: Health, now_ms: int, problem: str) -> Health:
    """It was asked and did not answer, or not in its protocol."""
    moved = _moved(health, "silence", now_ms)
    return replace(moved, problem=problem[:MAX_PROBLEM_CHARS], checked_ms=now_ms)


def refused(
    health: Health, now_ms: int, problem: str, *, retry_after_s: float | None = None, chance: float = 0.0
) -> Health:
    """Work was refused or broken off there.

    Args:
        retry_after_s: what the endpoint asked for, in seconds.
        chance: from 0 up to 1.
    Returns:
        A cooldown: as long as asked for, at most an hour; else 5 s, doubled with each refusal in a row up to 300 s;
        both up to a quarter longer. One that does not answer anyway stays offline, and cools down when it is back.
    """
    refusals = health.refusals + 1
    if retry_after_s is None:
        wait_s = min(LONGEST_COOLDOWN_S, FIRST_COOLDOWN_S * 2.0 ** min(refusals - 1, 30))
    else:
        wait_s = min(LONGEST_ASKED_S, max(0.0, retry_after_s))
    until_ms = now_ms + int(1000 * wait_s * (1 + JITTER * chance))
    if health.state is COOLDOWN and health.until_ms is not None:
        until_ms = max(until_ms, health.until_ms)  # of several refusals the one that asks for most counts
    moved = _moved(health, "refusal", now_ms)
    return replace(moved, until_ms=until_ms, refusals=refusals, problem=problem[:MAX_PROBLEM_CHARS])


def told(health: Health, sidecar: str, boot: int, refusals: int) -> Health:
    """Note how many refusals of a sidecar were counted; 0: it tells of none any more."""
    others = tuple(each for each in health.told if each[0] != sidecar)
    one = ((sidecar, boot, refusals),) if refusals else ()
    return replace(health, told=(*others, *one)[-MAX_TOLD:])


def succeeded(health: Health, now_ms: int) -> Health:
    """Work was done there. What was begun before a cooldown and succeeds in it does not end it."""
    moved = _moved(health, "success", now_ms)
    if moved.state is not ONLINE or not (health.refusals or health.state is not ONLINE):
        return moved
    return replace(moved, refusals=0, until_ms=None, problem="")


def passed(health: Health, now_ms: int) -> Health:
    """As it is now that time has gone by: a cooldown that is over becomes a trial, a quiet trial ends well."""
    if health.until_ms is None or now_ms < health.until_ms or (health.state, "time") not in ENDPOINT_EDGES:
        return health
    moved = _moved(health, "time", now_ms)
    if moved.state is HALF_OPEN:
        return replace(moved, until_ms=now_ms + int(1000 * TRIAL_S))
    return replace(moved, until_ms=None, refusals=0, problem="")


def _moved(health: Health, event: str, now_ms: int) -> Health:
    state = after(ENDPOINT_EDGES, "endpoint", health.state, event)
    return health if state is health.state else replace(health, state=state, since_ms=now_ms)

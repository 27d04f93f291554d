"""Verbs of hubs and of the agents that they serve: who lives, who leads, and who answers for which attempt.

A hub has a lease like an attempt has one; it is judged by the clock of the database alone, never by those of the hubs.
Every attempt in hand has the hub that answers for it (``tasks.hub``); only that one may move it on or end it. What each
verb does is ``hub_verbs.py``.
"""

from typing import TYPE_CHECKING

from msgspec import Struct

from hub.core.measures import Measure
from protocol.events import Event

if TYPE_CHECKING:
    from hub.store.store import AttemptRow, TaskRow


class HubRow(Struct, frozen=True, kw_only=True):
    """A hub: ``boot`` names one start of it, ``node`` its data directory. Times are Unix milliseconds."""

    boot: int
    node: str
    url: str
    version: str
    started_ms: int
    until_ms: int


class HeldRow(Struct, frozen=True):
    """A task in somebody's hands, and the attempt."""

    task: "TaskRow"
    attempt: "AttemptRow"


class EnterHub(Struct, frozen=True, kw_only=True):
    """A hub begins, or begins again under the same boot. Outcome: :class:`Standing`, or NodeInUse.

    What earlier starts of the same node held becomes its own at once, and what belongs to no hub that is known.
    """

    at_ms: int
    boot: int
    node: str
    version: str
    lease_ms: int
    url: str = ""


class RenewHub(Struct, frozen=True, kw_only=True):
    """A hub lives. Outcome: :class:`Standing`; not ``is_known``: it was given up, and has to begin again.

    ``may_bury``: if it leads, give up the hubs whose leases are over and take what they held. A hub that could not
    reach the database itself a moment ago must not judge others by their silence.
    """

    at_ms: int
    boot: int
    url: str
    lease_ms: int
    may_bury: bool = True


class LeaveHub(Struct, frozen=True, kw_only=True):
    """A hub ends in order; whoever leads takes what it held. Outcome: ``None``."""

    at_ms: int
    boot: int


class Standing(Struct, frozen=True, kw_only=True):
    """How a hub stands among the others.

    Attributes:
        is_known: its lease goes on.
        leader: epoch of its leadership; ``None`` if another hub leads.
        hubs: all that live, itself among them, by boot.
        buried: boots that were given up just now.
        taken: tasks that this hub has taken over just now.
        held: every attempt in hand at any hub, if anything has changed hands; else empty.
    """

    is_known: bool
    leader: int | None = None
    hubs: tuple[HubRow, ...] = ()
    buried: tuple[int, ...] = ()
    taken: frozenset[str] = frozenset()
    held: tuple[HeldRow, ...] = ()


class ReadHeld(Struct, frozen=True, kw_only=True):
    """Every attempt in hand at any hub. A verb, so that it sees every change before it. Outcome: a tuple of HeldRow."""

    at_ms: int


class PutAgent(Struct, frozen=True, kw_only=True):
    """An agent introduces itself to a hub: what it has in hand is this hub's from now on, whoever had it before.

    ``dial`` counts the connections of one boot of the agent, from 1; 0: it does not count them. A hello that was
    overtaken by a later one is refused. ``draining`` is kept as it is if it is left out. ``instance`` names the state
    directory in which boots are counted. Outcome: :class:`Joined`, or Evicted (a newer boot is known), or NameTaken (a
    sidecar of another instance is at another hub), or Overtaken.
    """

    at_ms: int
    name: str
    host: str
    boot: int
    slots: int
    version: str
    capabilities: tuple[str, ...]
    draining: bool | None = None
    leaving: bool = False
    instance: str = ""
    hub: int = 0
    dial: int = 0
    event: Event | None = None


class Joined(Struct, frozen=True, kw_only=True):
    """An agent at this hub.

    Attributes:
        seat: counts its welcomes over all hubs; the last one is where it is.
        draining: whether a person wants it to get no new work.
        held: what it had in hand at other hubs, as it was; it is in the hands of this hub now.
        quarantine: why it gets no work until a person decides; empty: it gets some.
    """

    seat: int
    draining: bool
    held: tuple[HeldRow, ...] = ()
    quarantine: str = ""


class LeaveAgent(Struct, frozen=True, kw_only=True):
    """An agent is not connected any more. Outcome: whether that was news; nothing if it was welcomed again since."""

    at_ms: int
    name: str
    seat: int
    hub: int
    event: Event


class MarkAgent(Struct, frozen=True):
    """Give an agent no new work, or give it work again, at whichever hub it is. Outcome: ``None``, or NotFound.

    ``draining`` is a person's will, ``leaving`` its own; ``quarantine`` says why it gets no work until a person
    decides, empty: it gets some. One that is left out stays as it is.
    """

    name: str
    event: Event
    draining: bool | None = None
    leaving: bool | None = None
    quarantine: str | None = None


class WaitingTask(Struct, frozen=True, kw_only=True):
    """A task that is queued or blocked; ``is_ready``: it may run now. ``wake_ms``: when time wants something of it."""

    task: str
    class_text: str
    priority: int
    is_ready: bool
    wake_ms: int | None


class PutArtifact(Struct, frozen=True, kw_only=True):
    """An attempt of ``hub`` has left a file, whose bytes are kept. Outcome: its id, or StaleAttempt."""

    at_ms: int
    id: str
    task: str
    epoch: int
    path: str
    size_bytes: int
    sha256: str
    hub: int = 0


class ForgetProgress(Struct, frozen=True, kw_only=True):
    """Forget what is kept of the work in progress of these tasks, if they have ended for good. Outcome: ``None``."""

    tasks: tuple[str, ...]


KeptChange = PutArtifact | ForgetProgress
"""What is asked about files that attempts leave."""


class KeepMeasures(Struct, frozen=True, kw_only=True):
    """Keep what was learnt, and of each kind at most ``most`` values. Outcome: ``None``."""

    at_ms: int
    measures: tuple[Measure, ...]
    most: int

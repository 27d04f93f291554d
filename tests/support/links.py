"""A link with an owner that writes down what it is told, for tests against a hub that speaks the real protocol."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from msgspec import Raw

from protocol import codec
from protocol.machine import HostReading
from protocol.messages import Assign, Cancel, HeldAttempt, Report, Wish
from protocol.model import AttemptId, AttemptState, Routing, TaskResult, TaskSpec, Tier, TierDecision
from sidecar.clock import SystemClock
from sidecar.dial import Pace
from sidecar.identity import Identity
from sidecar.inlet import Owner
from sidecar.link import Link
from tests.support.hub_server import HubServer

ME: Final = Identity(sidecar="Arbitrary", boot=7, host="box", slots=2, version="0.1.0")
PACE: Final = Pace(first_s=0.02, cap_s=0.05, settled_s=0.2, refused_s=0.05, handshake_s=1.0, watch_s=0.02)
ROUTING: Final = Routing(
    tier=TierDecision(explicit=None, inferred=Tier.TRIVIAL, effective=Tier.TRIVIAL, confidence=1, signals=())
)
HOST: Final = HostReading(
    at=datetime(2026, 1, 1, tzinfo=UTC), cpu_percent=1, cores=b"\x01\x01", ram=(2, 1), disk=(2, 1), notes={}
)


def attempt(number: int) -> AttemptId:
    """An attempt of this sidecar."""
    return AttemptId("Arbitrary", 7, f"{number:026}", 1)


def assign(number: int) -> Assign:
    """The hub's word that an attempt is to be done."""
    return Assign(
        attempt=attempt(number), spec=Raw(codec.encode_spec(TaskSpec(title="x"))), routing=ROUTING, lease_s=30
    )


def report(number: int) -> Report:
    """The report of an attempt that passed."""
    result = TaskResult(execution_ok=True, verified=None)
    return Report(attempt=attempt(number), state=AttemptState.PASSED, result=result)


@dataclass
class Notebook:
    """An owner that writes down what it is told, in order."""

    is_leaving: bool = False
    held: tuple[HeldAttempt, ...] = ()
    heard: list[tuple[str, object]] = field(default_factory=list)
    commits: list[bool] = field(default_factory=list)
    """Each commit, also those with nothing before them: whether it was to tidy."""
    fenced: asyncio.Event = field(default_factory=asyncio.Event)
    on_assign: Callable[[Assign], None] = lambda _message: None

    def inventory(self) -> tuple[HeldAttempt, ...]:
        """What the test says."""
        return self.held

    def assigned(self, message: Assign) -> None:
        """Write it down, and do what the test says."""
        self.heard.append(("assigned", message.attempt))
        self.on_assign(message)

    def cancelled(self, message: Cancel) -> None:
        """Write it down."""
        self.heard.append(("cancelled", message.attempt))

    def forget(self, attempt: AttemptId) -> None:
        """Write it down."""
        self.heard.append(("forget", attempt))

    def drain(self, *, on: bool) -> None:
        """Write it down."""
        self.heard.append(("drain", on))

    def wish(self, message: Wish) -> None:
        """Write it down."""
        self.heard.append(("prewarm", message))

    def fence(self) -> None:
        """Tell the test."""
        self.fenced.set()

    def commit(self, *, tidy: bool = True) -> None:
        """Write down that what came before is written down."""
        self.commits.append(tidy)
        if self.heard and self.heard[-1][0] != "commit":
            self.heard.append(("commit", None))

    def told(self, what: str) -> list[object]:
        """All that was told of one kind."""
        return [fact for kind, fact in self.heard if kind == what]


def make_link(hub: HubServer) -> Link:
    """A link in a hurry."""
    return Link(hub.url, lambda: "acm_good", ME, clock=SystemClock(), chance=lambda: 0.5, pace=PACE)


@asynccontextmanager
async def running(link: Link, owner: Owner) -> AsyncIterator[asyncio.Task[None]]:
    """The link at work, until the block ends."""
    task = asyncio.create_task(link.run(owner))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

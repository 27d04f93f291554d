"""A runner with real executors, processes, journal and git around it; only the line to the hub is a list."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Raw

from protocol import codec
from protocol.messages import Assign, Log, Message, Report
from protocol.model import (
    AttemptId,
    FailureClass,
    Routing,
    TaskSpec,
    Tier,
    TierDecision,
    Usage,
)
from sidecar.clock import SystemClock
from sidecar.environment import minimal_env
from sidecar.executors import executors
from sidecar.executors.base import Execution, Pauses, Spending, Work
from sidecar.journal import Journal
from sidecar.leases import Leases
from sidecar.llm.endpoints import Endpoints
from sidecar.parts import Parts
from sidecar.process import Processes
from sidecar.quota import Quota
from sidecar.runner import Runner
from sidecar.sandbox.cell import Level, Sandbox
from sidecar.sandbox.policy import Rules
from sidecar.shop import Shop
from sidecar.tails import Tails
from sidecar.wip import WipWorkspaces

Kind = TypeVar("Kind", bound=Message)
TIER: Final = TierDecision(explicit=None, inferred=Tier.TRIVIAL, effective=Tier.TRIVIAL, confidence=1, signals=())
PATIENCE_S: Final = 60.0


@dataclass
class Sent:
    """A line that keeps what is sent."""

    messages: list[Message] = field(default_factory=list)
    log_room: int = 1 << 20
    touched: int = 0
    beats: int = 0

    def __post_init__(self) -> None:
        self._changed = asyncio.Event()

    def send(self, message: Message, encoded: bytes = b"") -> None:
        """Keep a message; what it comes encoded as has to be that message."""
        assert not encoded or encoded == codec.encode(message)
        self.messages.append(message)
        self._changed.set()

    def touch(self) -> None:
        """Count a wish to have the journal committed."""
        self.touched += 1

    def beat(self) -> None:
        """Count a wish for a heartbeat."""
        self.beats += 1

    def of(self, kind: type[Kind]) -> list[Kind]:
        """Messages of one kind, in order."""
        return [message for message in self.messages if isinstance(message, kind)]

    async def until(self, fact: Callable[[], object]) -> None:
        """Wait for a fact; it is looked at after every message."""
        async with asyncio.timeout(PATIENCE_S):
            while not fact():
                self._changed.clear()
                await self._changed.wait()

    @property
    def output(self) -> str:
        """The live output of all attempts."""
        return "".join(message.text for message in self.of(Log))


class Spender:
    """An executor that uses up what it is told to, and then fails as it is told to, or stays until it is stopped."""

    name = "spender"
    pauses: Pauses = "never"

    def __init__(
        self, usage: Usage, failure: FailureClass | None = None, bug: Exception | None = None, *, stays: bool = False
    ) -> None:
        self.usage, self.failure, self.bug, self.stays = usage, failure, bug, stays
        self.works: list[Work] = []

    async def execute(self, work: Work) -> Execution:
        """Do as told."""
        self.works.append(work)
        if self.bug is not None:
            raise self.bug
        Spending(work).add(self.usage)
        if self.stays:
            work.log("stdout", "spent\n")
            await asyncio.Event().wait()
        return Execution(
            ok=self.failure is None,
            output="done",
            summary="done",
            usage=self.usage,
            failure=self.failure,
            error="down" if self.failure else "",
            error_code="endpoint_down" if self.failure else "",
        )


@dataclass
class Bench:
    """A runner with everything real around it."""

    runner: Runner
    sent: Sent
    journal: Journal
    parts: Parts
    folder: Path

    async def report(self, spec: TaskSpec, number: int = 1, executor: str = "shell") -> Report:
        """Have a task done; its report."""
        self.runner.assigned(assign(spec, number, executor))
        await self.sent.until(lambda: any(report.attempt == attempt(number) for report in self.sent.of(Report)))
        return self.sent.of(Report)[-1]


def attempt(number: int = 1, epoch: int = 1) -> AttemptId:
    """An attempt of this sidecar."""
    return AttemptId("Arbitrary", 5, f"{number:026}", epoch)


def assign(spec: TaskSpec, number: int = 1, executor: str = "shell", epoch: int = 1) -> Assign:
    """The hub's word that this is to be done."""
    routing = Routing(tier=TIER, executor=executor)
    return Assign(attempt=attempt(number, epoch), spec=Raw(codec.encode_spec(spec)), routing=routing, lease_s=30)


def make(
    folder: Path, slots: int = 2, grace_s: float = 0.2, leases: Leases | None = None, disk_bytes: int = 1 << 40
) -> Bench:
    """A runner whose state is in ``folder``; without ``leases`` nothing is ever late.

    What an attempt takes of the disk is looked at when a test says so (``parts.quota.look()``).
    """
    home = folder / "home"
    home.mkdir(exist_ok=True)
    processes = Processes(base_env=minimal_env(os.environ, home=home), grace_s=grace_s, drain_s=0.2)
    workspaces, endpoints = WipWorkspaces(folder / "work", processes), Endpoints(())
    shop = executors(endpoints)
    sandbox = Sandbox(processes, folder, Rules(), Level.UNSAFE)
    quota = Quota(processes, folder, disk_bytes)
    parts = Parts(processes, sandbox, workspaces, shop, folder / "scratch", SystemClock(), endpoints, quota=quota)
    sent = Sent()
    journal = Journal(folder / "journal.db")
    return Bench(
        Runner("Arbitrary", slots, Shop(parts), journal, sent, leases, Tails(folder / "tails")),
        sent,
        journal,
        parts,
        folder,
    )

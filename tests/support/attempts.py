"""An attempt on a workspace of its own, for tests of what runs inside one: tools, checks, executors."""

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path

from protocol.model import AttemptId, Budget, Iteration, Routing, TaskSpec, Tier, TierDecision, Usage
from sidecar.changes import mark_all
from sidecar.checks.base import Ask, Ground
from sidecar.core.coverage import Coverage
from sidecar.core.diff import Change
from sidecar.core.marks import Mark
from sidecar.core.tallies import Tally
from sidecar.environment import minimal_env
from sidecar.executors.base import Work
from sidecar.process import Processes
from sidecar.sandbox.cell import Cell, Level, Sandbox
from sidecar.sandbox.policy import Place, Rules

ATTEMPT = AttemptId("box", 1, "01jd0000000000000000000000", 1)


@dataclass(slots=True)
class Bench:
    """A workspace, a place for scratch files, real processes, and what was logged."""

    workspace: Path
    scratch: Path
    processes: Processes
    logged: list[tuple[str, str]] = field(default_factory=list)
    spent: list[Usage] = field(default_factory=list)
    changed: tuple[str, ...] = ()
    change: tuple[Change, ...] = ()
    commits: tuple[Change, ...] = ()
    tally_before: Tally | type[TimeoutError] | None = None
    coverage_before: Coverage | type[TimeoutError] | None = None
    plugins: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ask: Ask | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def log(self, stream: str, text: str) -> None:
        """Keep a piece of output."""
        self.logged.append((stream, text))
        self._news.set()

    @property
    def cell(self) -> Cell:
        """Where its programs run: with all rights of whoever runs the tests, because this is not about the sandbox."""
        place = Place(self.workspace, self.scratch)
        return Sandbox(self.processes, self.scratch, Rules(), Level.UNSAFE).cell(ATTEMPT, place)

    @property
    def output(self) -> str:
        """All that was logged."""
        return "".join(text for _, text in self.logged)

    async def until_logged(self, text: str) -> None:
        """Wait until ``text`` is part of the output."""
        while text not in self.output:
            self._news.clear()
            await self._news.wait()

    async def uncommitted(self) -> tuple[str, ...]:
        """What the owner of the workspace says when it is asked."""
        return self.changed

    async def changes(self) -> tuple[Change, ...]:
        """What the owner of the workspace says has changed since the base."""
        return self.change

    async def marks(self) -> dict[str, Mark]:
        """What lies in the workspace."""
        return mark_all(
            self.workspace,
            "",
            [str(path.relative_to(self.workspace)) for path in self.workspace.rglob("*") if not path.is_dir()],
        )

    async def history(self) -> tuple[Change, ...]:
        """What the commits of the work have added."""
        return self.commits

    async def before(self, _command: str, _timeout_s: float) -> Tally | None:
        """What the tests said at the base."""
        if isinstance(self.tally_before, type):
            raise self.tally_before
        return self.tally_before

    async def covered_before(self, _command: str, _report: str, _timeout_s: float) -> Coverage | None:
        """How much of the code was run at the base."""
        if isinstance(self.coverage_before, type):
            raise self.coverage_before
        return self.coverage_before

    def ground(self, timeout_s: float = 20.0) -> Ground:
        """Where a check runs."""
        return Ground(
            cell=self.cell,
            timeout_s=timeout_s,
            log=self.log,
            uncommitted=self.uncommitted,
            changes=self.changes,
            marks=self.marks,
            history=self.history,
            before=self.before,
            covered_before=self.covered_before,
            plugins=self.plugins,
            task="Repair add().",
            ask=self.ask,
        )

    def work(
        self,
        spec: TaskSpec,
        *,
        endpoint: str = "",
        previous: Iteration | None = None,
        remaining: Budget | None = None,
        deadline_s: float = 30.0,
    ) -> Work:
        """One iteration of ``spec``."""
        tier = TierDecision(explicit=None, inferred=Tier.STANDARD, effective=Tier.STANDARD, confidence=1.0, signals=())
        return Work(
            attempt=ATTEMPT,
            spec=spec,
            routing=Routing(tier=tier, endpoint=endpoint),
            workspace=self.workspace,
            scratch=self.scratch,
            iteration=1 if previous is None else previous.number + 1,
            previous=previous,
            remaining=remaining or Budget(),
            deadline_s=deadline_s,
            cell=self.cell,
            log=self.log,
            spent=self.spent.append,
        )


def bench(root: Path) -> Bench:
    """A bench in an empty directory."""
    workspace, scratch = root / "workspace", root / "scratch"
    workspace.mkdir()
    scratch.mkdir()
    return Bench(workspace, scratch, Processes(base_env=minimal_env(os.environ, home=scratch)))

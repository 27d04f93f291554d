"""Forget work in progress of tasks that have ended: nobody goes on from it.

While a task may yet be tried again, what its attempts had reached is its own (``hub/services/progress.py``), also that
of a dead letter. When it has ended for good, the documents and bundles here go, and the sidecar that made them is asked
to take away what it has pushed; one that is away is waited for. The rows are the list of what is left to do, so it is
done over any crash.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from hub.core.agent import Agent
from hub.core.ending import AgentPort
from hub.core.fleet import Fleet
from hub.store.hub_changes import ForgetProgress
from hub.store.store import ArtifactRow, Store
from protocol import codec
from protocol.clock import Clock
from protocol.errors import Overloaded, StoreFailed, Unavailable
from protocol.messages import Forget
from protocol.model import AgentState
from protocol.progress import FORGET, is_for_machines

log = structlog.get_logger(__name__)
LOOK_S: Final = 5.0
MAX_AT_ONCE: Final = 100
PATIENT_MS: Final = 86_400_000
"""How long a sidecar that is away is waited for."""


class Forgetting:
    """What is left of work in progress; :meth:`run` is its loop.

    Attributes:
        drop: removes the bytes of a file that no row names any more.
        is_elsewhere: whether an agent is at another hub that lives.
    """

    def __init__(self, store: Store, fleet: Fleet, agents: AgentPort, clock: Clock) -> None:
        self._store, self._fleet, self._agents, self._clock = store, fleet, agents, clock
        self.drop: Callable[[ArtifactRow], Awaitable[None]] = _nothing
        self.is_elsewhere: Callable[[Agent], bool] = lambda _agent: False
        self._after = ""

    async def run(self) -> None:
        """Forget it, until cancelled."""
        while True:
            try:
                await self.look()
            except StoreFailed:
                return  # the hub is ending
            except (Overloaded, Unavailable) as exc:
                log.debug("progress_not_forgotten", why=str(exc), next="trying again")
            await asyncio.sleep(LOOK_S)

    async def look(self) -> int:
        """Forget what can be forgotten now; of how many tasks that was."""
        tasks = await self._store.over_progress(self._after, MAX_AT_ONCE)
        self._after = tasks[-1] if len(tasks) == MAX_AT_ONCE else ""  # who waits for a sidecar stands in nobody's way
        done = [task for task in tasks if await self._forget(task)]
        if done:
            log.info("progress_forgotten", tasks=len(done))
        return len(done)

    async def _forget(self, task: str) -> bool:
        kept = [row for row in await self._store.artifacts(task) if is_for_machines(row.path)]
        if not kept or not await self._tell(task, kept[-1]):
            return False
        await self._store.commit(ForgetProgress(tasks=(task,)))
        for row in kept:
            await self.drop(row)
        return True

    async def _tell(self, task: str, newest: ArtifactRow) -> bool:
        """Ask the sidecar that kept it last, if it may have pushed it; whether all is asked that can be."""
        found = await self._store.spec(task)
        repository = codec.decode_spec(found[0]).context.repo if found is not None else ""
        if not repository:
            return True
        name = next((row.agent for row in await self._store.attempts(task) if row.epoch == newest.epoch), "")
        agent = self._fleet.agents.get(name)
        if agent is not None and self.is_elsewhere(agent):
            return False  # that hub reaches it, and does the same
        if agent is not None and agent.state is not AgentState.OFFLINE and FORGET in agent.capabilities:
            self._agents.send(agent.name, agent.boot, Forget(repo=repository, tasks=(task,)))
            return True
        if agent is not None and self._clock.now_ms() - newest.at_ms < PATIENT_MS:
            return False
        log.warning("progress_left", task=task, agent=name, next=f"remove refs/agentcom/wip/{task}-e* by hand")
        return True


async def _nothing(_row: ArtifactRow) -> None:
    pass

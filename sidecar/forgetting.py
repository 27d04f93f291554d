"""Take away what was pushed of work in progress when its task has ended, as the hub wishes.

One task after the other, and only when no attempt at it is left here: one that is being stopped may still push. A
repository that cannot be reached keeps its refs, which is told; the hub says it once. The caller is ``sidecar/app.py``.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import structlog

from protocol.errors import WorkFailed
from protocol.ids import TASK_ID
from protocol.messages import Forget, HeldAttempt

log = structlog.get_logger(__name__)
MAX_WISHES: Final = 1_000
LOOK_S: Final = 0.2


class Pushed(Protocol):
    """What was pushed of work in progress (``sidecar/wip.py``)."""

    async def forget_task(self, repository: str, task: str) -> int:
        """Take away what attempts at a task have pushed of their work in progress; how many refs that was.

        Raises:
            WorkFailed: it cannot be done.
        """
        ...


class Forgetting:
    """The wishes of hubs; :meth:`run` is the loop.

    Args:
        pushed: where it is done.
        held: the attempts of this sidecar.
    """

    def __init__(self, pushed: Pushed, held: Callable[[], Iterable[HeldAttempt]]) -> None:
        self._pushed, self._held = pushed, held
        self._wishes = deque[tuple[str, str]](maxlen=MAX_WISHES)
        self._wake = asyncio.Event()

    def hear(self, message: Forget) -> None:
        """The hub wants something forgotten."""
        self._wishes.extend((message.repo, task) for task in message.tasks if TASK_ID.fullmatch(task))
        self._wake.set()

    async def run(self) -> None:
        """Do what was wished, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._wishes:
                repository, task = self._wishes.popleft()
                while any(held.attempt.task == task for held in self._held()):  # noqa: ASYNC110 - the runner has no news for us
                    await asyncio.sleep(LOOK_S)
                await self._forget(repository, task)

    async def _forget(self, repository: str, task: str) -> None:
        try:
            count = await self._pushed.forget_task(repository, task)
        except (WorkFailed, OSError) as exc:
            log.warning("progress_left", task=task, why=str(exc), next=f"remove refs/agentcom/wip/{task}-e* by hand")
        else:
            log.info("progress_forgotten", task=task, refs=count)

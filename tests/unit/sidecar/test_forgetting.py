"""The promise of forgetting what was pushed: only what a hub names, and when nobody here works at it any more."""

import asyncio
from contextlib import suppress

from protocol.messages import Forget, HeldAttempt
from protocol.model import AttemptId, AttemptState
from sidecar.errors import RepositoryUnreachable
from sidecar.forgetting import Forgetting

TASK, OTHER = "01hzy0m5k3v8f6c2q9w4e7r1t0", "01hzy0m5k3v8f6c2q9w4e7r1t1"


class Place:
    """A repository that cannot be reached for one of the tasks."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.news = asyncio.Event()

    async def forget_task(self, repository: str, task: str) -> int:
        self.asked.append((repository, task))
        self.news.set()
        if task == TASK:
            raise RepositoryUnreachable(repository, "no route")
        return 1


async def test_what_is_held_here_is_waited_for_and_what_fails_stops_nothing() -> None:
    place, held = Place(), [HeldAttempt(attempt=AttemptId("a", 1, TASK, 1), state=AttemptState.RUNNING, iteration=1)]
    looked = asyncio.Event()

    def inventory() -> list[HeldAttempt]:
        looked.set()
        return held

    forgetting = Forgetting(place, inventory)
    work = asyncio.create_task(forgetting.run())
    forgetting.hear(Forget(repo="/r", tasks=("../../etc", TASK, OTHER)))
    await looked.wait()
    assert place.asked == []
    held.clear()
    while len(place.asked) < 2:
        place.news.clear()
        await place.news.wait()
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work

    assert place.asked == [("/r", TASK), ("/r", OTHER)]

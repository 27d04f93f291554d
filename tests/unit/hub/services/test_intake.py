"""What of a submission is asked for twice: nothing that was asked a moment ago, and everything else."""

import asyncio
from collections.abc import Iterable
from functools import partial
from random import Random

from hub.clock import SystemClock
from hub.core.fleet import Fleet
from hub.core.window import Window
from hub.gateway.connection import Links
from hub.services.intake import Intake, Outcome, Submission
from hub.store.sqlite import SqliteStore
from protocol.api import Submitted
from protocol.errors import Overloaded
from protocol.ids import IdMaker
from protocol.model import TaskSpec


class Door:
    """Counts how often it is asked, and is open until it is shut."""

    def __init__(self) -> None:
        self.asked, self.is_shut = 0, False

    def admit(self, _tasks: int, _classes: Iterable[str], _by: str) -> None:
        self.asked += 1
        if self.is_shut:
            raise Overloaded("shut", 1.0)


async def _outcome(intake: Intake, *titles: str, is_checked: bool) -> Outcome:
    waiting: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    specs = [TaskSpec(title=title, executor="noop") for title in titles]
    intake.post([Submission(specs, None, b"", "x", partial(waiting.set_result))], is_checked=is_checked)
    return await waiting


async def test_a_lone_task_of_a_known_kind_that_was_let_in_is_not_asked_about_again(store: SqliteStore) -> None:
    door, clock, window = Door(), SystemClock(), Window()
    intake = Intake(store, Fleet(), window, Links(clock), clock, IdMaker(Random(1).getrandbits), admit=door.admit)

    assert isinstance(await _outcome(intake, "a", is_checked=True), Submitted)
    assert door.asked == 1  # its kind was new
    assert isinstance(await _outcome(intake, "b", is_checked=True), Submitted)
    assert door.asked == 1
    (queue,) = window.classes.values()
    assert len(queue) == 2

    door.is_shut = True
    assert isinstance(await _outcome(intake, "c", is_checked=False), Overloaded)
    assert isinstance(await _outcome(intake, "d", "e", is_checked=True), Overloaded)
    assert len(queue) == 2


async def test_what_a_lone_submission_cannot_be_is_told_to_its_caller(store: SqliteStore) -> None:
    clock = SystemClock()
    intake = Intake(store, Fleet(), Window(), Links(clock), clock, IdMaker(_no_chance))

    assert isinstance(await _outcome(intake, "a", is_checked=True), RuntimeError)


def _no_chance(bits: int) -> int:
    raise RuntimeError(bits)

"""Promises of :mod:`hub.services.admission`: the worst reason comes first, and kinds of tasks are bounded."""

import pytest

from hub.core.window import Window
from hub.services.admission import MAX_CLASSES, Admission
from hub.store.sqlite import SqliteStore
from hub.store.waiting import MAX_WAITING_TASKS
from protocol.errors import Overloaded, StorageFull
from tests.support.stores import CLASS


def no_room() -> None:
    raise StorageFull("no room", 5.0)


async def test_with_room_for_them_tasks_come_in(store: SqliteStore) -> None:
    Admission(store, Window()).check(1_000, [CLASS], "a")


async def test_a_full_disk_is_told_before_a_long_queue(store: SqliteStore) -> None:
    with pytest.raises(StorageFull):
        Admission(store, Window(), [no_room]).check(MAX_WAITING_TASKS + 1, [CLASS], "a")
    with pytest.raises(Overloaded):
        Admission(store, Window()).check(MAX_WAITING_TASKS + 1, [CLASS], "a")


async def test_a_new_kind_of_task_waits_while_too_many_kinds_wait_already(store: SqliteStore) -> None:
    window = Window()
    for number in range(MAX_CLASSES):
        window.open(f'{{"executor":"x{number}","strategies":["trivial"]}}')
    admission = Admission(store, window)

    admission.check(1, ['{"executor":"x7","strategies":["trivial"]}'], "a")
    with pytest.raises(Overloaded, match="tasks of 10000 different kinds wait already"):
        admission.check(1, [CLASS], "a")

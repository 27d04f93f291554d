"""Promises of :mod:`hub.store.waiting`: new tasks have limits, all else joins, and the wait is an honest guess."""

import pytest

from hub.store.changes import AddTasks, AppendLog, Record
from hub.store.many_changes import End, Many, Submissions
from hub.store.waiting import (
    MAX_BATCH,
    MAX_BATCH_TASKS,
    MAX_WAITING_BYTES,
    MAX_WAITING_TASKS,
    SHARE,
    Item,
    Waiting,
)
from protocol.errors import Overloaded, Throttled
from protocol.events import Event, EventKind
from tests.support.stores import new_task

TASK = new_task(1)
END = End(1, "t", 1, 0, 0, 0, b"x" * 1_000, {})


def tasks(count: int, by: str = "a") -> AddTasks:
    return AddTasks(at_ms=1, tasks=(TASK,) * count, by=by)


def fact(number: int = 1) -> Record:
    return Record(Event(kind=EventKind.HUB_STARTED, at_ms=number))


def output(size_bytes: int) -> AppendLog:
    return AppendLog(at_ms=1, task="t", epoch=1, offset=0, stream="stdout", text="x" * size_bytes)


def test_what_waits_is_counted_until_it_is_answered() -> None:
    waiting = Waiting()
    waiting.put(tasks(3), None)
    waiting.put(fact(), None)
    assert (len(waiting), waiting.unanswered, waiting.tasks) == (2, 2, 3)

    batch = waiting.batch()
    assert (len(waiting), waiting.unanswered, waiting.tasks) == (0, 2, 3)

    for item in batch:
        waiting.answered(item)
    assert (waiting.unanswered, waiting.tasks, waiting.size_bytes) == (0, 0, 0)


def test_a_batch_ends_before_it_holds_too_many_changes_or_new_tasks() -> None:
    waiting = Waiting()
    for _ in range(MAX_BATCH + 1):
        waiting.put(fact(), None)
    waiting.put(tasks(MAX_BATCH_TASKS - 1), None)
    waiting.put(tasks(2), None)

    assert [len(waiting.batch()) for _ in range(4)] == [MAX_BATCH, 2, 1, 0]


def test_many_in_one_count_as_many() -> None:
    waiting = Waiting()
    for _ in range(3):
        waiting.put(Many([fact()] * (MAX_BATCH // 2)), None)
    waiting.put(Many([END]), None)
    assert waiting.unanswered == 3 * (MAX_BATCH // 2) + 1
    first = waiting.batch()
    assert [len(first), len(waiting.batch())] == [2, 2]

    for item in first:
        waiting.answered(item)
    assert waiting.unanswered == MAX_BATCH // 2 + 1
    assert waiting.size_bytes > MAX_BATCH // 2 + len(END.result)


def test_new_tasks_that_came_together_count_as_those_of_their_caller() -> None:
    waiting, alone = Waiting(), Waiting()
    waiting.put(Submissions([tasks(3), tasks(2)], "a", 5), None)
    for change in (tasks(3), tasks(2)):
        alone.put(change, None)
    assert (waiting.tasks, waiting.unanswered, waiting.size_bytes) == (5, 2, alone.size_bytes)
    with pytest.raises(Throttled, match="5 new tasks of yours"):
        waiting.check(int(SHARE * MAX_WAITING_TASKS), "a")
    waiting.check(int(SHARE * MAX_WAITING_TASKS), "b")

    for item in waiting.batch():
        waiting.answered(item)
    assert (waiting.tasks, waiting.unanswered, waiting.size_bytes) == (0, 0, 0)


def test_one_change_that_is_larger_than_a_batch_still_goes_alone() -> None:
    waiting = Waiting()
    waiting.put(tasks(MAX_BATCH_TASKS + 1), None)
    waiting.put(fact(), None)

    assert [len(waiting.batch()), len(waiting.batch())] == [1, 1]


def test_the_order_is_kept() -> None:
    waiting = Waiting()
    for number in range(1, MAX_BATCH + 10):
        waiting.put(fact(number), None)
    taken: list[Item] = [*waiting.batch(), *waiting.batch()]

    assert [item.change.event.at_ms for item in taken if isinstance(item.change, Record)] == list(
        range(1, MAX_BATCH + 10)
    )


def test_too_many_new_tasks_are_refused_whoever_sends_them_and_nothing_else_is() -> None:
    waiting = Waiting()
    for number in range(20):
        waiting.check(MAX_WAITING_TASKS // 20, str(number))
        waiting.put(tasks(MAX_WAITING_TASKS // 20, str(number)), None)

    with pytest.raises(Overloaded, match="20000 new tasks wait for the disk"):
        waiting.check(1, "somebody else")
    assert not waiting.is_full
    waiting.put(fact(), None)


def test_one_caller_may_not_take_the_room_of_the_others() -> None:
    waiting = Waiting()
    waiting.put(tasks(int(SHARE * MAX_WAITING_TASKS), "greedy"), None)

    with pytest.raises(Throttled, match="10000 new tasks of yours wait"):
        waiting.check(1, "greedy")
    waiting.check(1, "modest")


def test_the_share_is_free_again_when_the_tasks_are_stored() -> None:
    waiting = Waiting()
    waiting.put(tasks(int(SHARE * MAX_WAITING_TASKS), "a"), None)
    for item in waiting.batch():
        waiting.answered(item)

    waiting.check(1_000, "a")


def test_bytes_count_too() -> None:
    waiting = Waiting()
    waiting.put(output(MAX_WAITING_BYTES + 1), None)

    assert waiting.is_behind
    with pytest.raises(Overloaded):
        waiting.check(1, "a")


def test_the_wait_is_guessed_from_how_fast_the_disk_was() -> None:
    waiting = Waiting()
    assert waiting.retry_after_s == 1.0
    waiting.put(tasks(2_000), None)
    waiting.batch()
    waiting.wrote(2_000, 2.0)  # 1,000 a second
    for _ in range(8):
        waiting.put(tasks(2_000), None)

    assert waiting.retry_after_s == 10.0
    waiting.wrote(1, 100.0)
    assert 10.0 < waiting.retry_after_s <= 60.0
    assert waiting.retry_after_s.is_integer()

"""The promises of group commit: an answer means it is stored, a batch grows by itself, a failure ends everything."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hub.store.changes import AnyChange, Outcome, Record
from hub.store.many_changes import Many
from hub.store.waiting import MAX_BATCH
from hub.store.writer import Landed, Writer, awaited
from protocol.errors import NotFound, Overloaded, StoreFailed
from protocol.events import Event, EventKind
from protocol.logs import ABOUT, about


def change(number: int) -> Record:
    return Record(Event(kind=EventKind.HUB_STARTED, at_ms=number))


def number_of(made: AnyChange) -> int:
    assert isinstance(made, Record)
    return made.event.at_ms


class Disk:
    """What a backend is to the writer: slow if told so, and full if told so."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.writing = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_full = False

    async def apply(self, batch: list[AnyChange]) -> tuple[list[Outcome], list[Event]]:
        self.batches.append([number_of(made) for made in batch])
        self.writing.set()
        await self.gate.wait()
        self.writing.clear()
        if self.is_full:
            raise StoreFailed("disk full")
        return [NotFound("task", "x") if n < 0 else n for n in self.batches[-1]], []


def started(disk: Disk) -> Writer:
    writer = Writer(awaited(disk.apply))
    writer.start()
    return writer


async def test_what_a_commit_sets_in_motion_comes_before_the_answers_to_those_who_wait_for_it() -> None:
    writer = Writer(awaited((disk := Disk()).apply))
    order: list[str] = []

    async def caller() -> None:
        await writer.commit(change(1))
        order.append("answered")

    waiting = asyncio.create_task(caller())
    await asyncio.sleep(0)  # its change waits before the other one
    writer.post(change(2), lambda _outcome: asyncio.get_running_loop().call_soon(order.append, "assigned"))
    writer.start()
    await waiting

    assert disk.batches == [[1, 2]]
    assert order == ["assigned", "answered"]
    await writer.close()


async def test_what_a_commit_sets_in_motion_comes_before_those_who_hear_of_events_and_the_next_batch() -> None:
    writer = Writer(awaited((disk := Disk()).apply))
    order: list[str] = []
    writer.on_seal = lambda: order.append("sealed")
    writer.on_commit = lambda _events: order.append("told")
    writer.post(change(1), lambda _outcome: order.append("assigned"))
    writer.start()
    await writer.close()

    assert disk.batches == [[1]]
    assert order == ["sealed", "assigned", "told", "sealed"]


async def test_what_comes_in_the_turn_in_which_a_batch_lands_is_sealed_when_that_one_is_answered() -> None:
    begun: asyncio.Queue[Landed] = asyncio.Queue()
    writer = Writer(lambda _batch, landed: begun.put_nowait(landed))
    order: list[str] = []
    writer.on_seal = lambda: order.append("sealed")
    writer.start()

    async def caller() -> None:
        await writer.commit(change(1))
        order.append("answered")

    waiting = asyncio.create_task(caller())
    landed = await begun.get()
    order.clear()
    landed(([1], []))
    writer.post(change(2))
    landed = await begun.get()

    assert order == ["answered", "sealed"]
    landed(([2], []))
    await waiting
    await writer.close()


async def test_what_joins_a_batch_as_it_is_sealed_is_not_looked_for_again() -> None:
    writer = Writer(awaited((disk := Disk()).apply))
    seals = 0

    def join() -> None:
        nonlocal seals
        seals += 1
        if seals == 1:
            writer.post(change(2))

    writer.on_seal = join
    writer.post(change(1))
    writer.start()
    await disk.writing.wait()
    disk.gate.clear()
    for _ in range(5):
        await asyncio.sleep(0)

    assert disk.batches == [[1, 2]]
    assert seals == 2  # before it, and when it was written
    await writer.close()


async def test_an_idle_writer_commits_at_once_and_answers_afterwards() -> None:
    writer = started(disk := Disk())

    assert await writer.commit(change(1)) == 1
    assert disk.batches == [[1]]
    assert (writer.batches, writer.changes) == (1, 1)
    await writer.close()


async def test_what_comes_while_a_batch_is_written_goes_together_into_the_next_one() -> None:
    writer = started(disk := Disk())
    disk.gate.clear()
    first = asyncio.ensure_future(writer.commit(change(1)))
    await disk.writing.wait()
    others = [asyncio.ensure_future(writer.commit(change(n))) for n in (2, 3, 4)]
    await asyncio.sleep(0)
    assert not first.done()
    disk.gate.set()

    assert await asyncio.gather(first, *others) == [1, 2, 3, 4]
    assert disk.batches == [[1], [2, 3, 4]]
    await writer.close()


async def test_a_batch_has_a_largest_size_and_keeps_the_order() -> None:
    writer = started(disk := Disk())
    answers = await asyncio.gather(*(writer.commit(change(n)) for n in range(MAX_BATCH * 2 + 1)))

    assert answers == list(range(MAX_BATCH * 2 + 1))
    assert [len(batch) for batch in disk.batches] == [MAX_BATCH, MAX_BATCH, 1]
    await writer.close()


async def test_the_scheduler_may_join_a_batch_before_it_is_sealed() -> None:
    writer = started(disk := Disk())
    joins = [10, 11]
    writer.on_seal = lambda: writer.post(change(joins.pop(0))) if joins else None
    await writer.commit(change(1))
    await writer.close()

    assert disk.batches == [[1, 10], [11]]


async def test_a_wake_up_seals_without_a_change_and_writes_only_if_one_was_made() -> None:
    writer = started(disk := Disk())
    looked = asyncio.Event()
    writer.on_seal = looked.set
    writer.wake()
    await looked.wait()
    await writer.close()

    assert disk.batches == []


async def test_a_refusal_is_raised_to_whoever_asked_and_to_nobody_else() -> None:
    writer = started(Disk())
    bad, good = await asyncio.gather(writer.commit(change(-1)), writer.commit(change(2)), return_exceptions=True)

    assert isinstance(bad, NotFound)
    assert good == 2
    await writer.close()


async def test_facts_are_told_before_the_answers_and_after_the_commit() -> None:
    told: list[Any] = []

    async def apply(batch: list[AnyChange]) -> tuple[list[Outcome], list[Event]]:
        told.append("written")
        return [None] * len(batch), [Event(kind=EventKind.HUB_STARTED, at_ms=1, seq=7)]

    writer = Writer(awaited(apply))
    writer.start()
    writer.on_commit = lambda events: told.append([event.seq for event in events])
    await asyncio.gather(writer.commit(change(1)))
    told.append("answered")

    assert told == ["written", [7], "answered"]
    await writer.close()


async def test_what_many_changes_in_one_hold_is_counted_by_the_change() -> None:
    async def apply(batch: list[AnyChange]) -> tuple[list[Outcome], list[Event]]:
        return [None] * len(batch), []

    writer = Writer(awaited(apply))
    writer.start()
    writer.post(Many([change(1), change(2), change(3)]))
    await writer.commit(change(4))

    assert (writer.batches, writer.changes, writer.sizes) == (1, 4, {3: 1})
    await writer.close()


async def test_a_full_disk_ends_the_writer_and_nothing_is_acknowledged_any_more() -> None:
    writer = started(disk := Disk())
    failures: list[BaseException] = []
    writer.on_failure = failures.append
    assert await writer.commit(change(1)) == 1
    disk.gate.clear()
    disk.is_full = True
    asked = [asyncio.ensure_future(writer.commit(change(n))) for n in (2, 3)]
    await disk.writing.wait()
    asked.append(asyncio.ensure_future(writer.commit(change(4))))
    await asyncio.sleep(0)
    disk.gate.set()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)

    assert [str(outcome) for outcome in outcomes] == ["disk full"] * 3
    assert all(isinstance(outcome, StoreFailed) for outcome in outcomes)
    disk.is_full = False
    with pytest.raises(StoreFailed):
        await writer.commit(change(5))
    writer.post(change(6))
    assert disk.batches == [[1], [2, 3]]
    assert [str(failure) for failure in failures] == ["disk full"]
    await writer.close()


async def test_a_failure_behind_a_commit_ends_the_writer_once_and_what_is_in_flight_with_it() -> None:
    writer = started(disk := Disk())
    failures: list[BaseException] = []
    writer.on_failure = failures.append
    disk.gate.clear()
    asked = asyncio.ensure_future(writer.commit(change(1)))
    await disk.writing.wait()
    writer.fail(StoreFailed("the log was not copied"))
    disk.is_full = True
    disk.gate.set()

    with pytest.raises(StoreFailed, match="not copied"):
        await asked
    with pytest.raises(StoreFailed, match="not copied"):
        await writer.commit(change(2))
    await writer.close()
    assert [str(failure) for failure in failures] == ["the log was not copied"]


async def test_a_bug_in_a_callback_is_a_failure_and_leaves_nobody_waiting() -> None:
    writer = started(Disk())
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    writer.on_failure = failed.set_result

    def broken(_outcome: Outcome) -> None:
        raise KeyError("a bug")

    writer.post(change(1), broken)
    behind = asyncio.ensure_future(writer.commit(change(2)))

    assert "a bug" in str(await failed)
    with pytest.raises(StoreFailed, match="the writer ended"):
        await behind
    with pytest.raises(StoreFailed):
        await writer.commit(change(3))
    await writer.close()


async def test_who_no_longer_waits_for_an_answer_harms_nobody() -> None:
    writer = started(disk := Disk())
    disk.gate.clear()
    gone = asyncio.ensure_future(writer.commit(change(1)))
    await disk.writing.wait()
    gone.cancel()
    disk.gate.set()

    assert await writer.commit(change(2)) == 2
    await writer.close()


async def test_when_nothing_more_can_wait_callers_are_turned_away_but_not_what_must_be_told() -> None:
    writer = started(disk := Disk())
    writer.waiting.most = 1_000
    disk.gate.clear()
    writer.post(change(0))
    await disk.writing.wait()
    for number in range(999):
        writer.post(change(number))

    assert writer.waiting.is_full
    with pytest.raises(Overloaded) as caught:
        await writer.commit(change(1))
    assert caught.value.retry_after_s == 1
    writer.post(change(1))
    disk.gate.set()
    await writer.close()
    assert writer.changes == 1_001
    assert writer.waiting.unanswered == 0


async def test_closing_writes_what_waits_and_then_takes_no_more() -> None:
    writer = started(disk := Disk())
    waiting = [asyncio.ensure_future(writer.commit(change(n))) for n in range(3)]
    await asyncio.sleep(0)
    await writer.close()

    assert await asyncio.gather(*waiting) == [0, 1, 2]
    with pytest.raises(StoreFailed, match="the store is closed"):
        await writer.commit(change(4))
    assert disk.batches == [[0, 1, 2]]


async def test_whoever_closes_it_too_waits_as_well() -> None:
    writer = started(disk := Disk())
    disk.gate.clear()
    waiting = asyncio.ensure_future(writer.commit(change(1)))
    await disk.writing.wait()
    closing = [asyncio.ensure_future(writer.close()) for _ in range(2)]
    await asyncio.sleep(0)
    disk.gate.set()
    await asyncio.wait_for(asyncio.gather(*closing), 60.0)

    assert await waiting == 1


async def test_what_comes_as_it_closes_is_answered() -> None:
    writer = started(Disk())
    late: list[Outcome] = []
    closing = asyncio.ensure_future(writer.close())
    await asyncio.sleep(0)  # it has asked for a last look, which finds nothing
    asyncio.get_running_loop().call_soon(writer.post, change(1), late.append)
    await closing

    assert late in ([1], [writer._refusal])
    assert not writer.waiting


async def test_what_it_does_is_no_part_of_the_request_that_woke_it() -> None:
    seen: list[dict[str, object]] = []

    async def apply(batch: list[AnyChange]) -> tuple[list[Outcome], list[Event]]:
        seen.append(dict(ABOUT.get()))
        return [None] * len(batch), []

    writer = Writer(awaited(apply))
    writer.start()
    writer.on_seal = lambda: seen.append(dict(ABOUT.get()))
    with about(request_id="r1"):
        await writer.commit(change(1))

    assert seen == [{}] * len(seen)
    await writer.close()


async def test_a_writer_that_never_started_closes(tmp_path: Path) -> None:
    await Writer(awaited(Disk().apply)).close()


def test_without_listeners_nothing_happens() -> None:
    writer = Writer(awaited(Disk().apply))
    nothing: Sequence[Event] = ()
    writer.on_seal()
    writer.on_commit(nothing)
    writer.on_failure(StoreFailed("x"))

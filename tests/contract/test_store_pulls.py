"""The promises about pull requests, kept by every store."""

import pytest
from msgspec.structs import replace

from hub.core.pulls import Record
from hub.store.changes import ForgetTasks
from hub.store.pull_changes import DropPull, PullRow, PutPull, StalePull
from protocol.events import Event, EventKind
from protocol.model import AttemptState, FailureClass, TaskState
from protocol.pulls import PullState, Risk
from tests.support.stores import RESULT, Rows, new_task, task_id

LATE = 2**53
OPENED = Event(kind=EventKind.PULL_OPENED, at_ms=1, facts={"number": 7})


async def done(rows: Rows, number: int, state: TaskState = TaskState.COMPLETED, **more: object) -> None:
    """A task whose agent has pushed its work."""
    epoch = (await rows.claim(number)).epoch
    await rows.accept(number, epoch)
    ends = {"attempt": AttemptState.PASSED, "verified": True, "execution_ok": True, "result": RESULT, "failure": None}
    await rows.finish(number, epoch, state, **(ends | {"offers": True} | more))


def row(number: int, version: int = 0, **more: object) -> PullRow:
    found = PullRow(
        task=task_id(number), epoch=1, project="p", state=PullState.PENDING, record=Record(branch="b"),
        next_ms=5, changed_ms=5, version=version,
    )  # fmt: skip
    return replace(found, **more)


async def test_work_that_was_pushed_is_there_to_be_offered_from_the_commit_in_which_it_ends(rows: Rows) -> None:
    await rows.add(new_task(1), new_task(2), new_task(3), new_task(4))
    await done(rows, 1)
    await done(rows, 2, offers=False)
    await done(rows, 3, TaskState.FAILED, attempt=AttemptState.FAILED, failure=FailureClass.VERIFY, verified=False)

    (begun,) = await rows.store.due_pulls(LATE, 10)
    assert (begun.task, begun.epoch, begun.state, begun.record) == (task_id(1), 1, PullState.PENDING, Record())
    assert await rows.store.due_pulls(0, 10) == []
    assert await rows.store.pull(task_id(2)) is None
    assert await rows.store.pull(task_id(3)) is None
    assert await rows.store.pulls("~", "", "", 10) == [], "nobody has looked whether its project wants any"


async def test_what_waits_for_a_person_is_not_offered_before_and_the_newest_attempt_counts(rows: Rows) -> None:
    await rows.add(new_task(1))
    await done(rows, 1, TaskState.WAITING, verified=False)

    assert await rows.store.due_pulls(LATE, 10) == []
    kept = await rows.store.pull(task_id(1))
    assert kept is not None
    assert (kept.epoch, kept.version) == (1, 1)


async def test_nobody_overwrites_a_change_that_he_has_not_seen(rows: Rows) -> None:
    await rows.add(new_task(1))
    await done(rows, 1)
    record = Record(branch="b", number=7, url="u", risk=Risk.HIGH, reasons=("\N{SNOWMAN}",))
    changed = row(1, 1, state=PullState.DRAFT, record=record, next_ms=None)
    assert await rows.store.commit(PutPull(changed, OPENED)) == 2
    for late in (row(1, 1), row(1, 9), row(2, 1)):
        with pytest.raises(StalePull):
            await rows.store.commit(PutPull(late))

    assert await rows.store.pull(task_id(1)) == replace(changed, version=2)
    assert await rows.store.due_pulls(LATE, 10) == [], "it waits for a person"
    assert [event.facts for event in await rows.store.events(0, 100) if event.kind is OPENED.kind] == [OPENED.facts]


async def test_requests_are_listed_newest_first_by_state_and_project(rows: Rows) -> None:
    await rows.add(*(new_task(number) for number in range(1, 6)))
    for number in range(1, 6):
        state = PullState.OPEN if number % 2 else PullState.DRAFT
        await done(rows, number)
        await rows.store.commit(PutPull(row(number, 1, state=state, project="q" if number == 5 else "p")))

    async def listed(before: str, state: str, project: str) -> list[str]:
        return [pull.task for pull in await rows.store.pulls(before, state, project, 3)]

    assert await listed("~", "", "") == [task_id(5), task_id(4), task_id(3)]
    assert await listed(task_id(3), "", "") == [task_id(2), task_id(1)]
    assert await listed("~", "open", "p") == [task_id(3), task_id(1)]


async def test_what_nobody_wants_is_dropped_and_goes_with_its_task(rows: Rows) -> None:
    await rows.add(new_task(1), new_task(2))
    await done(rows, 1)
    await done(rows, 2)
    await rows.store.commit(DropPull(task_id(1), 9))
    assert await rows.store.pull(task_id(1)) is not None
    await rows.store.commit(DropPull(task_id(1), 1))
    forget = ForgetTasks(
        at_ms=rows.tick(), tasks=(task_id(2),), states=frozenset({TaskState.COMPLETED}), ended_before_ms=LATE
    )
    await rows.store.commit(forget)

    assert await rows.store.pull(task_id(1)) is None
    assert await rows.store.pull(task_id(2)) is None

import json
from collections.abc import Iterator, Sequence
from typing import Any

import apsw
import pytest

from hub.store.batches import facts_text
from hub.store.budget_verbs import Budgeting
from hub.store.changes import Accept, AddTasks, Claim, Claimed, Finish, Unwilling
from hub.store.drafts import KEPT_DRAFTS, KEPT_SPEC_BYTES
from hub.store.hub_changes import MarkAgent, PutAgent
from hub.store.keeping import COMMIT_GAP, EVENT_GAP
from hub.store.keeping_changes import Restore
from hub.store.migrate import migrate
from hub.store.plain import Plain
from hub.store.records import event
from hub.store.sqlite_file import connect, progress
from hub.store.sqlite_statements import SqliteStatements, at_once
from protocol.errors import StaleAttempt
from protocol.events import Event, EventKind
from protocol.model import AttemptState, FailureClass, TaskState
from tests.support.stores import PLACEMENT, RESULT, new_task, task_id


@pytest.mark.parametrize(
    "facts",
    [
        {"title": "ünï", "n": 3, "cost_usd": 0.25, "verified": None},
        {"reason": "half a pair: \udcff"},
        {"ready_ms": 2**70},
        {"candidates": [{"a": ("b",)}]},
    ],
)
def test_facts_come_back_as_they_were(facts: dict[str, Any]) -> None:
    row = (1, 0, "task_queued", "t", None, None, facts_text(facts))

    assert event(row).facts == json.loads(json.dumps(facts))


def test_a_member_of_an_enumeration_is_its_word() -> None:
    assert facts_text({"failure": FailureClass.INFRA}) == '{"failure":"infra"}'


def test_numbers_that_are_none_are_read_where_an_older_hub_wrote_them() -> None:
    assert event((1, 0, "task_queued", "t", None, None, '{"a": NaN}')).facts["a"] != 0


class Counting(SqliteStatements):
    """The same, and remembers what was asked for."""

    def __init__(self, connection: apsw.Connection) -> None:
        super().__init__(connection)
        self.connection = connection
        self.asked: list[str] = []

    async def find(self, name: str, values: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
        self.asked.append(name)
        return await super().find(name, values)


@pytest.fixture
def counting() -> Iterator[Counting]:
    connection = connect(":memory:", 1.0)
    migrate(connection)
    yield Counting(connection)
    connection.close()


def finish(number: int) -> Finish:
    return Finish(
        at_ms=3, task=task_id(number), epoch=1, attempt=AttemptState.PASSED, next=TaskState.COMPLETED,
        retries=0, infra_failures=0, result=RESULT, execution_ok=True, is_charged=False, accepts=True,
    )  # fmt: skip


def claim(number: int) -> Claim:
    return Claim(at_ms=2, task=task_id(number), agent="a", host="h", boot=1, placement=PLACEMENT)


def test_a_task_that_is_given_away_and_done_soon_after_its_submission_is_never_read(counting: Counting) -> None:
    verbs = Budgeting(counting)
    outcomes = [
        *at_once(verbs.batch([AddTasks(at_ms=1, tasks=(new_task(1),), by="me")]))[0],
        *at_once(verbs.batch([claim(1)]))[0],
        *at_once(verbs.batch([finish(1)]))[0],
    ]

    assert [type(outcome).__name__ for outcome in outcomes] == ["Added", "Claimed", "Finished"]
    assert set(counting.asked) == {"find_willing"}
    assert at_once(counting.rows("task", task_id(1)))[0][1] == TaskState.COMPLETED


def test_what_a_batch_has_itself_and_agents_that_it_knows_are_not_read(counting: Counting) -> None:
    verbs = Plain(counting)
    joined = PutAgent(at_ms=1, name="a", host="h", boot=1, slots=9, version="1", capabilities=("x",))
    at_once(verbs.batch([joined]))
    for number in (1, 2):
        at_once(verbs.batch([AddTasks(at_ms=1, tasks=(new_task(number),), by="me"), claim(number)]))

    assert counting.asked == ["find_willing"]
    at_once(verbs.batch([MarkAgent(name="a", event=Event(kind=EventKind.AGENT_DRAINING, at_ms=2), draining=True)]))
    (_, unwilling), _ = at_once(verbs.batch([AddTasks(at_ms=3, tasks=(new_task(3),), by="me"), claim(3)]))
    assert isinstance(unwilling, Unwilling)
    assert unwilling.draining


def test_numbers_in_mind_are_those_of_the_store_whatever_becomes_of_a_batch(counting: Counting) -> None:
    verbs = Plain(counting)

    def told(number: int) -> int:
        _, events = at_once(verbs.batch([AddTasks(at_ms=1, tasks=(new_task(number),), by="me")]))
        assert counting.commits == progress(counting.connection).commits
        assert at_once(counting.rows("last_event")) == [(events[-1].seq,)]
        return events[-1].seq

    first = told(1)
    assert told(2) == first + 1
    at_once(counting.changed("guard"))
    with pytest.raises(apsw.ConstraintError):
        at_once(verbs.batch([AddTasks(at_ms=1, tasks=(new_task(3), new_task(2)), by="me")]))
    at_once(counting.changed("undo"))
    verbs.lost()
    assert told(3) == first + 2
    at_once(verbs.batch([Restore(at_ms=2, copied_ms=1)]))
    assert told(4) == first + EVENT_GAP + 4
    assert counting.commits > COMMIT_GAP


def test_a_task_that_has_ended_makes_room_and_is_read_if_somebody_asks_again(counting: Counting) -> None:
    verbs = Budgeting(counting)
    at_once(verbs.batch([AddTasks(at_ms=1, tasks=(new_task(1), new_task(2)), by="me")]))
    at_once(verbs.batch([claim(1)]))
    at_once(verbs.batch([finish(1)]))
    ((late,), _) = at_once(verbs.batch([finish(1)]))

    assert isinstance(late, StaleAttempt)
    assert counting.asked.count("find_tasks") == 1
    at_once(verbs.batch([claim(2)]))
    assert set(verbs._drafts) == {task_id(1), task_id(2)}


def test_what_was_undone_is_read_again(counting: Counting) -> None:
    verbs = Budgeting(counting)
    at_once(verbs.batch([AddTasks(at_ms=1, tasks=(new_task(1),), by="me")]))
    at_once(counting.changed("guard"))
    at_once(verbs.batch([claim(1)]))
    at_once(counting.changed("undo"))
    verbs.lost()

    ((again,), _) = at_once(verbs.batch([claim(1)]))

    assert isinstance(again, Claimed)
    assert again.epoch == 1


def test_many_tasks_do_not_fill_the_memory_and_long_ones_are_not_kept(counting: Counting) -> None:
    verbs = Budgeting(counting)
    for first in range(0, 3 * KEPT_DRAFTS, 500):
        tasks = tuple(new_task(number) for number in range(first, first + 500))
        at_once(verbs.batch([AddTasks(at_ms=1, tasks=tasks, by="me")]))
    at_once(verbs.batch([AddTasks(at_ms=1, tasks=(new_task(99_999, spec=b"x" * (KEPT_SPEC_BYTES + 1)),), by="me")]))
    ((claimed,), _) = at_once(verbs.batch([claim(99_999)]))

    assert len(verbs._drafts) <= 2 * KEPT_DRAFTS + 500
    assert isinstance(claimed, Claimed)
    assert len(claimed.spec) == KEPT_SPEC_BYTES + 1
    assert "find_specs" in counting.asked
    assert max(len(draft.spec) for draft in verbs._drafts.values() if draft and draft.spec) <= KEPT_SPEC_BYTES


def test_tasks_in_hand_and_those_that_wait_longest_are_not_read_again(counting: Counting) -> None:
    verbs = Budgeting(counting)
    for first in range(0, 2 * KEPT_DRAFTS + 500, 500):
        at_once(verbs.batch([AddTasks(at_ms=1, by="me", tasks=tuple(map(new_task, range(first, first + 500))))]))
        if not first:
            at_once(verbs.batch([claim(7)]))
    at_once(verbs.batch([claim(8), Accept(at_ms=3, task=task_id(7), epoch=1, hub=1)]))

    assert "find_tasks" not in counting.asked
    at_once(verbs.batch([claim(2 * KEPT_DRAFTS)]))
    assert counting.asked.count("find_tasks") == 1


def test_tasks_that_do_not_exist_take_no_place_of_others(counting: Counting) -> None:
    verbs = Budgeting(counting)
    at_once(verbs.batch([AddTasks(at_ms=1, by="me", tasks=(new_task(1),))]))
    at_once(verbs.batch([claim(2 + number) for number in range(2 * KEPT_DRAFTS)]))
    at_once(verbs.batch([claim(1)]))

    assert set(verbs._drafts) == {task_id(1)}


def test_statements_stay_prepared_however_many_rows_are_read(counting: Counting) -> None:
    asked = [("find_tasks", 1), ("find_specs", 1), ("find_willing", 1), ("find_keys", 1), ("last_logs", 2)]
    missed = []
    for _ in range(3):
        for name, columns in asked:
            at_once(counting.find(name, [(str(number),) * columns for number in range(255)]))
        at_once(counting.together([("put_fact", [("commits", 1)])]))
        missed.append(counting.connection.cache_stats()["misses"])

    assert missed[1] == missed[2]

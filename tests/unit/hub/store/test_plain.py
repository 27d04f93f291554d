"""The promise of the short way and of many changes in one: they answer and leave what the long way does, one by one."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.store import changes as c
from hub.store.hold_changes import PutHold
from hub.store.hold_verbs import Holding
from hub.store.hub_changes import PutAgent
from hub.store.many_changes import End, Many, singly
from hub.store.migrate import migrate
from hub.store.plain import SHORT_BYTES, Plain
from hub.store.sqlite_file import connect
from hub.store.sqlite_statements import SqliteStatements, at_once
from hub.store.work import in_full
from protocol.errors import AgentComError
from protocol.model import AttemptState, TaskState
from protocol.progress import HoldKind
from tests.support.stores import PLACEMENT, RESULT, new_task, task_id

TABLES = ("tasks", "specs", "attempts", "dependencies", "events", "counts", "audit", "pulls", "holds")
WORK = '{"executor":"noop","strategies":["trivial"]}'
PROOF = f'{WORK[:-1]},"proof":{{"agent":"a","host":"h","work":{json.dumps(WORK)}}}}}'

tasks = st.integers(1, 5).map(task_id)
at = st.integers(1_000, 1_020)
claims = st.builds(
    c.Claim,
    at_ms=at,
    task=tasks,
    agent=st.sampled_from(["a", "a", "b", "drained"]),
    host=st.just("h"),
    boot=st.just(1),
    placement=st.just(PLACEMENT),
    class_text=st.sampled_from(["", WORK, WORK, PROOF]),
    hub=st.sampled_from([1, 1, 1, 2]),
    carries=st.sampled_from([False, False, True]),
    own_micro=st.sampled_from([None, None, 5]),
    model=st.sampled_from(["", "m"]),
)
plain = st.builds(
    End,
    at_ms=at,
    task=tasks,
    epoch=st.sampled_from([1, 1, 1, 2]),
    hub=st.sampled_from([1, 1, 1, 2]),
    retries=st.just(1),
    infra_failures=st.just(0),
    result=st.just(RESULT),
    facts=st.sampled_from([{"model": "none", "verified": None}, {}]),
    accepts=st.booleans(),
    offers=st.booleans(),
)
ends = st.builds(
    c.Finish,
    at_ms=at,
    task=tasks,
    epoch=st.sampled_from([1, 1, 1, 2]),
    attempt=st.just(AttemptState.PASSED),
    next=st.sampled_from([TaskState.COMPLETED, TaskState.COMPLETED, TaskState.QUEUED, TaskState.WAITING]),
    retries=st.just(1),
    infra_failures=st.just(0),
    reason=st.sampled_from(["", "", "why"]),
    result=st.sampled_from([RESULT, RESULT, None]),
    execution_ok=st.just(True),
    verified=st.sampled_from([None, None, True]),
    names_checks=st.booleans(),
    checks=st.sampled_from(["", "", "0" * 64]),
    facts=st.sampled_from([{"model": "none", "verified": None}, {}]),
    hub=st.sampled_from([1, 1, 1, 2]),
    is_charged=st.sampled_from([False, False, True]),
    accepts=st.booleans(),
    offers=st.booleans(),
)
others = st.one_of(
    st.builds(c.Accept, at_ms=at, task=tasks, epoch=st.just(1), hub=st.just(1)),
    st.builds(PutHold, at_ms=at, task=tasks, kind=st.just(HoldKind.PAUSE), by=st.just("me"), reason=st.just("")),
)
single = st.one_of(claims, claims, plain, plain, ends, others)
many = st.lists(single, min_size=1, max_size=4).map(Many)
batches = st.lists(st.lists(st.one_of(single, many), min_size=1, max_size=4), max_size=6)


def introduction(name: str) -> PutAgent:
    return PutAgent(
        at_ms=1, name=name, host="h", boot=1, slots=9, version="1", capabilities=(), draining=name == "drained", hub=1
    )


def said(outcome: object) -> str:
    return f"{type(outcome).__name__}: {outcome}" if isinstance(outcome, AgentComError) else repr(outcome)


def play(
    kind: type[Holding], found: list[list[Any]], *, is_refused: bool = False
) -> tuple[list[str], list[str], dict[str, list[Any]]]:
    """What these verbs answer, tell and leave behind; ``is_refused``: where the database has refused each batch."""
    connection = connect(":memory:", 1.0)
    try:
        migrate(connection)
        verbs = kind(SqliteStatements(connection))
        new = (
            *(new_task(n, class_text=WORK) for n in range(1, 4)),
            new_task(4, depends_on=(task_id(1),), class_text=WORK),
            new_task(5, class_text=PROOF),
        )
        start = [*map(introduction, ("a", "b", "drained")), c.AddTasks(at_ms=1, tasks=new, by="me")]
        answers, told = [], []
        for batch in [start, *found]:
            outcomes, events = at_once((verbs.each if is_refused else verbs.batch)(batch))
            for change, outcome in zip(batch, outcomes, strict=True):
                answers += map(said, outcome if isinstance(change, Many) else [outcome])
            told += [repr(event) for event in events]
        rows = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}  # noqa: S608 - our own words
        return answers, told, rows
    finally:
        connection.close()


def apart(found: list[list[Any]]) -> list[list[Any]]:
    """The same one by one, in full."""
    return [[in_full(change) if isinstance(change, End) else change for change in singly(batch)] for batch in found]


@given(batches)
@settings(max_examples=25, deadline=None)
def test_the_short_way_answers_tells_and_leaves_what_the_long_way_does(found: list[list[Any]]) -> None:
    assert play(Plain, found) == play(Holding, apart(found))


@given(batches)
@settings(max_examples=25, deadline=None)
def test_each_of_many_has_its_own_outcome_where_the_database_refuses_one(found: list[list[Any]]) -> None:
    assert play(Plain, found, is_refused=True)[0] == play(Holding, apart(found))[0]


def test_the_plainest_claim_and_end_go_the_short_way() -> None:
    connection = connect(":memory:", 1.0)
    migrate(connection)
    verbs = Plain(SqliteStatements(connection))
    task = task_id(1)
    at_once(verbs.batch([introduction("a"), c.AddTasks(at_ms=1, tasks=(new_task(1),), by="me")]))
    at_once(verbs.batch([c.AddTasks(at_ms=1, tasks=(new_task(2),), by="me")]))
    claim = c.Claim(at_ms=2, task=task_id(2), agent="a", host="h", boot=1, placement=PLACEMENT, hub=1)
    end = End(
        at_ms=3, task=task_id(2), epoch=1, hub=1, retries=0, infra_failures=0, result=RESULT, facts={}, accepts=True
    )
    verbs._willing["a"] = (0, 0, 1, 1)  # as the batch reads it ahead

    assert isinstance(verbs._at_once(claim), c.Claimed)
    verbs._taken()
    assert isinstance(verbs._at_once(end), c.Finished)
    assert verbs._at_once(c.Accept(at_ms=3, task=task, epoch=1)) is None
    connection.close()


def test_short_is_the_next_step_of_known_tasks_that_nobody_waits_for() -> None:
    connection = connect(":memory:", 1.0)
    migrate(connection)
    verbs = Plain(SqliteStatements(connection))
    needed, after = new_task(2), new_task(3, depends_on=(task_id(2),))
    at_once(verbs.batch([introduction("a"), c.AddTasks(at_ms=1, tasks=(new_task(1), needed, after), by="me")]))

    def add(number: int, **more: Any) -> c.AddTasks:
        return c.AddTasks(at_ms=2, tasks=(new_task(number, **more),), by="me")

    def claim(number: int) -> c.Claim:
        return c.Claim(at_ms=2, task=task_id(number), agent="a", host="h", boot=1, placement=PLACEMENT, hub=1)

    def end(number: int, result: bytes = RESULT) -> End:
        return End(at_ms=3, task=task_id(number), epoch=1, hub=1, retries=0, infra_failures=0, result=result, facts={})

    proof = new_task(6, class_text=PROOF)
    at_once(verbs.batch([c.AddTasks(at_ms=1, tasks=(proof, new_task(7, spec=b"x" * 501)), by="me")]))
    short: list[list[Any]] = [
        [add(4)],
        [add(4), claim(4)],
        [Many([add(4), claim(4)])],
        [claim(1)],
        [end(1)],
        [c.Accept(at_ms=3, task=task_id(1), epoch=1), end(1)],
    ]
    long: list[list[Any]] = [
        [add(4), add(5), add(6)],
        [Many([add(4), add(5), add(6)])],
        [c.AddTasks(at_ms=2, tasks=(new_task(4), new_task(5)), by="me")],
        [c.AddTasks(at_ms=2, tasks=(), by="me")],
        [add(4, depends_on=(task_id(1),))],
        [add(4, spec=b"x" * (SHORT_BYTES + 1))],
        [end(2)],  # which sets others free
        [end(9)],  # which nobody has in mind
        [end(1, b"x" * (SHORT_BYTES + 1))],
        [end(6)],  # which is a proof
        [claim(6)],
        [claim(7)],  # whose spec would have to be read
        [claim(9)],
        [replace(claim(1), carries=True)],
        [replace(claim(1), own_micro=5)],
        [in_full(end(1))],  # which may have been charged, or have to climb
        [introduction("b")],
        [PutHold(at_ms=1, task=task_id(1), kind=HoldKind.PAUSE, by="me", reason="")],
    ]
    assert [verbs.is_short(batch) for batch in short] == [True] * len(short)
    assert [verbs.is_short(batch) for batch in long] == [False] * len(long)
    connection.close()

"""The promise of a list by state: the same tasks in the same order, whichever queries find them."""

import itertools
import json

import msgspec

from hub.core.facets import Alike
from hub.store.changes import Cancel
from hub.store.listing import LONG_QUEUE, pages
from hub.store.store import TaskQuery
from protocol.model import TaskState
from tests.support.stores import Rows, new_task, task_id

Q, A, R, B = TaskState.QUEUED, TaskState.ASSIGNED, TaskState.RUNNING, TaskState.BLOCKED
DONE, CANCELLED = TaskState.COMPLETED, TaskState.CANCELLED
SEEN = (Q, A, R, B, DONE, CANCELLED)


async def mixed(rows: Rows) -> None:
    """Tasks 1 to 12, two in each of these states, the two of each far apart."""
    await rows.add(*(new_task(n, labels={"team": "x" if n % 3 else "y"}) for n in range(1, 11)))
    for number in (1, 7):
        await rows.claim(number)
        await rows.accept(number, 1)
        await rows.finish(number, 1)
    for number in (2, 8):
        await rows.claim(number, "b")
    for number in (3, 9):
        await rows.claim(number, "b")
        await rows.accept(number, 1)
    for number in (4, 10):
        await rows.store.commit(Cancel(at_ms=rows.tick(), task=task_id(number), reason="", by="me"))
    await rows.add(*(new_task(n, depends_on=(task_id(5),)) for n in (11, 12)))


async def test_a_list_by_states_is_what_is_left_of_the_whole_list(rows: Rows) -> None:
    await mixed(rows)
    everything = await rows.store.tasks(TaskQuery(limit=100))
    assert {row.state for row in everything} == set(SEEN)

    for size in (1, 2, 6):
        for states in itertools.combinations(SEEN, size):
            wanted = [row.id for row in everything if row.state in states]
            found = await rows.store.tasks(TaskQuery(states=frozenset(states), limit=100))
            first = await rows.store.tasks(TaskQuery(states=frozenset(states), limit=1))
            after = await rows.store.tasks(TaskQuery(states=frozenset(states), limit=100, before=first[0].id))

            assert [row.id for row in found] == wanted
            assert [row.id for row in first + after] == wanted


async def test_agent_and_label_count_in_every_state(rows: Rows) -> None:
    await mixed(rows)

    async def listed(*states: TaskState, **query: object) -> list[str]:
        return [row.id for row in await rows.store.tasks(TaskQuery(states=frozenset(states), **query))]  # type: ignore[arg-type]  # the fields of a query

    assert await listed(Q, A, R, agent="b") == [task_id(n) for n in (9, 8, 3, 2)]
    assert await listed(Q, agent="b") == []
    assert await listed(Q, DONE, label=("team", "x")) == [task_id(n) for n in (7, 5, 1)]
    assert await listed(A, R, label=("team", "y")) == [task_id(n) for n in (9, 3)]


async def test_words_are_looked_for_in_title_and_id_in_every_state(rows: Rows) -> None:
    await mixed(rows)
    await rows.add(new_task(13, title="Fix the 100% Login"), new_task(14, title="deploy"))

    async def found(words: str, *states: TaskState) -> list[str]:
        return [row.id for row in await rows.store.tasks(TaskQuery(states=frozenset(states), words=words))]

    assert await found("login") == await found("LOGIN", Q) == [task_id(13)]
    assert await found("100%") == [task_id(13)]
    assert await found(task_id(8)) == await found(task_id(8), A) == [task_id(8)]
    assert await found("login", A, DONE, B) == await found("_") == []


async def test_words_are_found_whatever_their_letters_look_like(rows: Rows) -> None:
    await rows.add(
        new_task(1, title="Überprüfe die STRASSE"),
        new_task(2, title="CAFE\u0301 öffnen"),
        new_task(3, title="İstanbul"),
    )

    async def found(words: str) -> list[str]:
        return [row.id for row in await rows.store.tasks(TaskQuery(words=words))]

    assert await found("ÜBERPRÜFE") == await found("straße") == [task_id(1)]
    assert await found("Café ÖFFNEN") == [task_id(2)]
    assert await found("istanbul") == await found("cafe o") == []


async def test_priority_tier_and_model_are_filters_in_every_state(rows: Rows) -> None:
    await mixed(rows)
    await rows.add(
        new_task(13, priority=0, level="complex", model="big"), new_task(14, level="complex"), new_task(15, model="big")
    )
    await rows.store.commit(msgspec.structs.replace(rows.claim_change(14), model="small"))

    async def found(*states: TaskState, **query: object) -> list[str]:
        return [row.id for row in await rows.store.tasks(TaskQuery(states=frozenset(states), **query))]  # type: ignore[arg-type]  # the fields of a query

    assert await found(priorities=frozenset({0})) == await found(Q, priorities=frozenset({0, 3})) == [task_id(13)]
    assert await found(tiers=frozenset({"complex"})) == [task_id(14), task_id(13)]
    assert await found(model="big") == await found(Q, model="big") == [task_id(15), task_id(13)]
    assert await found(A, model="small") == [task_id(14)]
    assert await found(DONE, model="small") == []
    row = await rows.store.task(task_id(14))
    assert row is not None
    assert (row.tier, row.model) == ("complex", "small")


async def test_what_is_rare_is_the_same_in_the_index_of_what_can_be_asked(rows: Rows) -> None:
    await mixed(rows)
    await rows.add(new_task(13, title="Ärger", labels={"team": "x"}, level="complex", model="big"))
    queries = (
        TaskQuery(),
        TaskQuery(words="ärger", limit=5),
        TaskQuery(agent="b", before=task_id(9)),
        TaskQuery(label=("team", "x"), limit=2),
        TaskQuery(states=frozenset({Q, DONE}), label=("team", "y")),
        TaskQuery(tiers=frozenset({"complex"}), priorities=frozenset({2}), model="big"),
    )
    for query in queries:
        plain = pages(query, {})[0].values[2:]
        states = json.dumps(sorted(query.states or TaskState))
        rare = await rows.store._rows("list_sight", query.before or "~", states, *plain)

        assert [row[0] for row in rare] == [row.id for row in await rows.store.tasks(query)], query


async def test_tasks_that_are_alike_are_counted(rows: Rows) -> None:
    await mixed(rows)
    await rows.add(
        new_task(13, title="Ärger", priority=0, labels={"team": "x", "a": "b"}, level="complex", model="big")
    )

    alike = await rows.store.facets(TaskQuery(words="ärger"))
    assert alike == [Alike("queued", "urgent", "complex", "", "big", 1)]
    by_state: dict[str, int] = {}
    for each in await rows.store.facets(TaskQuery()):
        by_state[each.state] = by_state.get(each.state, 0) + each.tasks
    assert by_state == {state: n for state, n in (await rows.store.counts()).items() if n}
    assert sum(each.tasks for each in await rows.store.facets(TaskQuery(label=("team", "y")))) == 3
    assert await rows.store.label_sets(TaskQuery(states=frozenset({Q, A}), label=("team", "y"))) == [
        ({"team": "x"}, 3),
        ({"team": "x", "a": "b"}, 1),
        ({"team": "y"}, 1),
    ]


async def test_a_long_queue_is_looked_for_among_all_tasks_and_a_short_one_by_itself(rows: Rows) -> None:
    await mixed(rows)
    query = TaskQuery(states=frozenset({Q}))
    (short,), (long,) = pages(query, {Q: LONG_QUEUE - 1}), pages(query, {Q: LONG_QUEUE})

    assert (short.name, long.name) == ("list_queued", "list_tasks")
    found = [await rows.store._rows(page.name, *page.values) for page in (short, long)]
    assert [row[0] for row in found[0]] == [row[0] for row in found[1]] == [task_id(6), task_id(5)]

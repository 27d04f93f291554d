"""The promise of a list by state: the same tasks in the same order, whichever queries find them."""

import itertools

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


async def test_a_long_queue_is_looked_for_among_all_tasks_and_a_short_one_by_itself(rows: Rows) -> None:
    await mixed(rows)
    query = TaskQuery(states=frozenset({Q}))
    (short,), (long,) = pages(query, LONG_QUEUE - 1), pages(query, LONG_QUEUE)

    assert (short.name, long.name) == ("list_queued", "list_tasks")
    found = [await rows.store._rows(page.name, *page.values) for page in (short, long)]
    assert [row[0] for row in found[0]] == [row[0] for row in found[1]] == [task_id(6), task_id(5)]

"""Which queries make a list by state, and how their pages become one. That each has its index: ``test_plans.py``."""

from pathlib import Path

from hub.store.listing import FEW, merged, pages
from hub.store.store import TaskQuery
from protocol.model import TaskState
from tests.support.stores import new_task, opened, task_id


async def test_a_task_that_moves_on_between_two_queries_is_told_once_as_it_was_seen_last(tmp_path: Path) -> None:
    async with opened("sqlite-memory", tmp_path) as rows:
        await rows.add(new_task(1), new_task(2))
        before = await rows.store.tasks(TaskQuery())
        await rows.claim(1)
        after = await rows.store.tasks(TaskQuery(agent="a"))

        found = merged([*before, *after], 10)
        assert [(row.id, row.state) for row in found] == [
            (task_id(2), TaskState.QUEUED),
            (task_id(1), TaskState.ASSIGNED),
        ]
        assert merged([*before, *after], 1) == found[:1]


def test_every_state_is_looked_for_once_and_in_the_order_in_which_tasks_move() -> None:
    found = pages(TaskQuery(states=frozenset(TaskState) - {TaskState.DEAD}), {})

    assert [page.name for page in found] == ["list_queued", "list_held", *["list_settled"] * 5]
    assert {page.values[1] for page in found[2:]} == {"blocked", "waiting", "completed", "failed", "cancelled"}
    assert [page.name for page in pages(TaskQuery(states=frozenset(TaskState)), {})] == ["list_tasks"]


def test_what_is_narrowed_is_looked_for_where_there_is_least_to_read() -> None:
    many = {TaskState.COMPLETED: FEW + 1, TaskState.DEAD: 3}

    def names(**query: object) -> list[str]:
        return [page.name for page in pages(TaskQuery(**query), many)]  # type: ignore[arg-type]  # the fields of a query

    assert names(words="x") == names(agent="a") == names(tiers=frozenset({"trivial"})) == ["list_sight"]
    assert names(words="x", states=frozenset({TaskState.DEAD})) == ["list_settled"]
    assert names() == names(before=task_id(1)) == ["list_tasks"]

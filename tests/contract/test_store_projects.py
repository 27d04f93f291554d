"""The promises about projects, kept by every store."""

import asyncio

import pytest
from msgspec.structs import replace

from hub.store.project_changes import ProjectRow, PutProject, RemoveProject, StaleProject
from protocol.events import Event, EventKind
from tests.support.stores import Rows

ADDED = Event(kind=EventKind.PROJECT_ADDED, at_ms=1, facts={"project": "p"})
REMOVED = Event(kind=EventKind.PROJECT_REMOVED, at_ms=2, facts={"project": "p"})


def row(name: str, version: int = 0, *, is_default: bool = False, body: bytes = b"caf\xc3\xa9") -> ProjectRow:
    return ProjectRow(
        name=name, is_default=is_default, body=body, created_ms=5, changed_ms=5 + version, version=version
    )


async def put(rows: Rows, project: ProjectRow) -> int:
    version: int = await rows.store.commit(PutProject(project, ADDED))
    return version


async def test_projects_are_kept_by_name_and_every_change_is_counted(rows: Rows) -> None:
    assert await put(rows, row("b")) == 1
    assert await put(rows, row("a", body=b"1")) == 1
    assert await put(rows, row("a", 1, body=b"2")) == 2

    kept = await rows.store.projects()
    assert kept == (replace(row("a", 2, body=b"2"), changed_ms=6), replace(row("b", 1), changed_ms=5))
    assert [event.kind for event in await rows.store.events(0, 10)] == [EventKind.PROJECT_ADDED] * 3


async def test_nobody_overwrites_a_change_that_he_has_not_seen(rows: Rows) -> None:
    await put(rows, row("p", body=b"first"))
    await put(rows, row("p", 1, body=b"second"))
    for late in (row("p", body=b"new"), row("p", 1, body=b"late"), row("p", 9, body=b"odd"), row("gone", 1)):
        with pytest.raises(StaleProject):
            await put(rows, late)
    with pytest.raises(StaleProject, match="project p: expected version 1, found 2"):
        await rows.store.commit(RemoveProject("p", 1, REMOVED))

    assert [(project.body, project.version) for project in await rows.store.projects()] == [(b"second", 2)]
    assert len(await rows.store.events(0, 10)) == 2


async def test_of_changes_at_the_same_time_one_counts_and_the_others_are_told(rows: Rows) -> None:
    await put(rows, row("p"))
    done = await asyncio.gather(
        *(put(rows, row("p", 1, body=str(number).encode())) for number in range(20)), return_exceptions=True
    )

    assert [outcome for outcome in done if outcome == 2] == [2]
    assert sum(isinstance(outcome, StaleProject) for outcome in done) == 19
    (kept,) = await rows.store.projects()
    assert kept.body == str(done.index(2)).encode()


async def test_one_project_at_most_is_the_default_and_who_is_too_late_takes_it_from_nobody(rows: Rows) -> None:
    await put(rows, row("a", is_default=True))
    await put(rows, row("b", is_default=True))
    with pytest.raises(StaleProject):
        await put(rows, row("a", 1, is_default=True))  # it is not the default any more: that was a change, too

    assert [(p.name, p.is_default, p.version) for p in await rows.store.projects()] == [("a", False, 2), ("b", True, 1)]


async def test_a_project_that_is_forgotten_is_gone(rows: Rows) -> None:
    await put(rows, row("p"))
    await rows.store.commit(RemoveProject("p", 1, REMOVED))
    with pytest.raises(StaleProject, match="it is gone"):
        await rows.store.commit(RemoveProject("p", 1, REMOVED))

    assert await rows.store.projects() == ()
    assert await put(rows, row("p")) == 1

"""Rows T2 and T24: a process that dies, or whose disk fails, at one particular call to the kernel.

The library ``tests/support/bad_disk.c`` ends the hub before or after the Nth write, sync, truncation or send, wherever
in the code that may be. Somebody outside remembers what was acknowledged.
"""

import asyncio
import contextlib
import http.client
import secrets
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

from sidecar.journal import Journal
from tests.support.bad_disk import BadDisk, lose_unsynced
from tests.support.fragile import PATIENCE_S, FragileHub, History, fragile_hub
from tests.support.mesh import Mesh, Refused, until
from tests.support.postgres import postgres_server

KILLS: Final = ("kill-before", "kill-after")


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[FragileHub]:
    with fragile_hub(tmp_path) as hub:
        yield hub


def die_at(hub: FragileHub, points: Iterable[tuple[str, int, tuple[str, ...]]]) -> int:
    """One little history for each point, with the hub dying there; the number of deaths."""
    for fault, nth, calls in points:
        hub.disk.arm(fault, nth, calls=calls)
        history = History(hub)
        history.happen()
        hub.disk.mend()
        history.judge()
    numbers = [event["seq"] for event in hub.events()]
    assert numbers == list(range(1, len(numbers) + 1)), "the events have no gap"
    return len(hub.deaths)


def test_t02_a_hub_killed_at_any_call_keeps_what_it_acknowledged_and_doubles_nothing(fragile: FragileHub) -> None:
    """Killed before or after a commit, a sync, an answer: the same keys give the same tasks, each accepted once."""
    durable = ("sync", "send")
    points = [(KILLS[nth % 2], nth, durable) for nth in range(1, 40, 3)]
    points += [(KILLS[nth // 4 % 2], nth, ("write",)) for nth in range(1, 42, 4)]  # a commit is one write, and its mark

    assert die_at(fragile, points) >= 22
    assert set(fragile.deaths) == {-signal.SIGKILL}


async def test_t02_a_hub_on_a_database_killed_at_any_word_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    """The same in PostgreSQL: before or after any word to the database, a caller or the agent."""
    store = postgres_server().url(await postgres_server().empty_database())
    points = [(KILLS[nth // 8 % 2], nth, ("send",)) for nth in range(2, 60, 8)]

    def die() -> int:
        with fragile_hub(tmp_path, store) as hub:
            return die_at(hub, points)

    assert await asyncio.to_thread(die) >= 5


@pytest.mark.soak
async def test_t02_soak_a_hub_on_a_database_killed_before_and_after_every_word(tmp_path: Path) -> None:
    """The same at every word."""
    store = postgres_server().url(await postgres_server().empty_database())
    points = [(kill, nth, ("send",)) for nth in range(1, 160) for kill in KILLS]

    def die() -> int:
        with fragile_hub(tmp_path, store) as hub:
            return die_at(hub, points)

    deaths = await asyncio.to_thread(die)
    print(f"T2 PostgreSQL: {deaths} deaths at words, 0 lost, 0 doubled")

    assert deaths > 100


@pytest.mark.soak
def test_t02_soak_a_hub_killed_before_and_after_every_call(fragile: FragileHub) -> None:
    """The same, at each call that the little history makes."""
    fragile.disk.forget()
    assert die_at(fragile, [("none", 0, ())]) == 0
    calls = len([call for call in fragile.disk.seen() if call.number])
    deaths = die_at(fragile, [(kill, nth, ()) for nth in range(1, calls + 1) for kill in KILLS])
    print(f"T2: {calls} calls in the history, {deaths} deaths before and after them, 0 lost, 0 doubled")

    assert deaths >= calls


def test_t24_one_failed_fsync_ends_the_hub_and_nothing_is_acknowledged_after_it(fragile: FragileHub) -> None:
    """The kernel reports a lost write once and forgets it: what was not synced by then is taken away here."""
    for nth in (1, 4, 9):
        acknowledged = _load_until_it_fails(fragile, nth)
        assert fragile.hub is not None
        assert fragile.hub.wait(PATIENCE_S) == 1

        calls = fragile.disk.seen()
        failed = next(place for place, call in enumerate(calls) if call.errno)
        database = [call for call in calls[failed:] if call.path.endswith("hub.sqlite")]
        assert database == [], "nothing of what may be lost is copied into the database"
        lose_unsynced(calls[: failed + 1])
        fragile.disk.mend()
        fragile.start_hub()
        assert acknowledged
        for task in acknowledged:
            fragile.task(task)


def test_t24_a_failed_sync_of_the_store_itself_ends_the_hub_too(fragile: FragileHub) -> None:
    """Commits sync the log; the store is synced when the log is copied into it, which SQLite alone does in silence."""
    acknowledged: list[str] = []
    fragile.disk.match = "/hub/hub.sqlite$"
    fragile.disk.arm("EIO", calls=("sync",))
    with contextlib.suppress(OSError, http.client.HTTPException, Refused):
        for _ in range(400):
            acknowledged += fragile.submit_all([{"executor": "noop", "prompt": "p" * 20_000, "needs": ["x"]}] * 5)
    assert fragile.hub is not None
    assert fragile.hub.wait(PATIENCE_S) == 1
    fragile.disk.mend()
    fragile.start_hub()

    assert acknowledged
    for task in acknowledged:
        fragile.task(task)


def _load_until_it_fails(hub: FragileHub, nth: int) -> list[str]:
    acknowledged: list[str] = []

    def submit() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, Refused):
            while True:
                acknowledged.append(hub.submit(title="x", executor="noop", needs=["nobody-has-this"]))

    hub.disk.forget()
    hub.disk.mend()
    acknowledged.append(hub.submit(title="before", executor="noop", needs=["nobody-has-this"]))
    hub.disk.arm("EIO", nth, calls=("sync",))
    callers = [threading.Thread(target=submit) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return acknowledged


def _do_one(mesh: Mesh, disk: BadDisk, fault: str, nth: int, calls: tuple[str, ...]) -> tuple[bool, bool]:
    """One task, its sidecar dying at a call of the journal: whether it died, with the report written down by then."""
    marker = mesh.folder / f"ran-{fault}-{nth}-{secrets.token_hex(4)}"
    disk.arm(fault, nth, calls=calls)
    task = mesh.submit(command=f"echo run >> {marker}", title=marker.name)
    process = mesh.sidecars["One"]
    until(lambda: process.poll() is not None or mesh.task(task)["state"] == "completed", "its death or the end")
    disk.mend()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.2)  # it may have died as the last word of the task was on its way
    died = process.poll() is not None
    was_reported = died and _has_report(mesh.folder / "state-One", mesh.folder / "copy", task)
    if died:
        mesh.start_sidecar("One", env=disk.env)
    [ended] = mesh.wait(task)
    mesh.wait_agents("One")
    runs = len(marker.read_text().split())

    assert ended["state"] == "completed", ended
    assert sum(attempt["accepted"] for attempt in ended["attempts"]) == 1
    assert runs <= (1 if was_reported else 1 + died), "finished work is not done again"
    return died, was_reported


def _has_report(state: Path, copy: Path, task: str) -> bool:
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for file in state.glob("journal.db*"):
        if not file.name.endswith("-shm"):
            shutil.copy(file, copy)
    with Journal(copy / "journal.db") as journal:
        return task in {entry.attempt.task for entry in journal.reports()}


def _die_in_the_journal(folder: Path, points: Iterable[tuple[str, int, tuple[str, ...]]]) -> tuple[int, int]:
    """One task for each point; how often its sidecar died, and how often the report was written down by then."""
    disk = BadDisk(folder / "control", "/state-One/journal.db")
    running = Mesh(folder)
    try:
        running.start_hub()
        running.start_sidecar("One", env=disk.env)
        running.wait_agents("One")
        ends = [_do_one(running, disk, *point) for point in points]
    finally:
        running.stop()
    return sum(died for died, _ in ends), sum(was_reported for _, was_reported in ends)


def test_t02_a_sidecar_killed_at_any_call_of_its_journal_loses_no_report(tmp_path: Path) -> None:
    """From accept to acknowledgement: what was written down as finished is reported, and never run again."""
    calls = (3, 6, 9, 10, 11, 12, 13, 14, 15, 17)  # a task has up to 18, fewer where changes share a commit
    points = [(KILLS[nth % 2], nth, ("write", "sync")) for nth in calls]
    # A report is synced before it leaves. A journal that was just opened syncs its log's head before that.
    points += [("kill-after", nth, ("sync",)) for nth in (1, 2)]
    deaths, reported = _die_in_the_journal(tmp_path, points)

    assert deaths >= 5
    assert reported >= 1


@pytest.mark.soak
def test_t02_soak_a_sidecar_killed_before_and_after_every_call_of_its_journal(tmp_path: Path) -> None:
    """The same at every call, several times over."""
    points = [(kill, nth, ("write", "sync")) for _ in range(4) for nth in range(1, 20) for kill in KILLS]
    deaths, reported = _die_in_the_journal(tmp_path, points)
    print(f"T2 sidecar: {len(points)} tasks, {deaths} deaths, {reported} with the report written down, 0 lost, 0 again")

    assert reported >= 4

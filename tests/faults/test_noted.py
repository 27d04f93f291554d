"""Rows T2, T24 and T29 for the redo journal: what is acknowledged before the store has it.

A hub takes to its journal when it knows that its disk is quick, so each history begins with tasks that come alone. The
folder lies in memory where there is such a place: there the disk is quick for certain, and a hub that is killed leaves
the same files as elsewhere. What a power cut leaves is rows T22 and T23.
"""

import contextlib
import http.client
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from hub.store.redo import REDO_BYTES, pending, redo_of
from hub.store.sqlite_file import connect, progress
from tests.support.bad_disk import Call, lose_unsynced
from tests.support.fragile import LONE, PATIENCE_S, FragileHub, History, fragile_hub, is_noted
from tests.support.mesh import Mesh, Refused

KILLS: Final = ("kill-before", "kill-after")
MEMORY: Final = Path("/dev/shm")
REDO, LOG = "/hub/hub.sqlite-redo$", "/hub/hub.sqlite-wal$"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="agentcom-", dir=MEMORY if MEMORY.is_dir() else tmp_path))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def alone(folder: Path) -> Iterator[FragileHub]:
    """A hub with a bad disk and no agent: nothing but what a test sends is written."""
    hub = FragileHub(folder)
    hub.start_hub()
    yield hub
    hub.stop()


# --- T2: killed -------------------------------------------------------------------------------------------------------


def die_at(hub: FragileHub, points: list[tuple[str, str, int, str]]) -> list[list[Call]]:
    """One little history for each point, of a hub that notes; what its disk saw up to each of its deaths."""
    seen = []
    for match, fault, nth, call in points:
        hub.warm()
        hub.disk.forget()
        hub.disk.match, deaths = match, len(hub.deaths)
        hub.disk.arm(fault, nth, calls=(call,))
        history = History(hub)
        history.happen()
        hub.disk.mend()
        history.judge()
        if len(hub.deaths) > deaths:
            seen.append(hub.disk.seen())
    numbers = [event["seq"] for event in hub.events()]
    assert numbers == list(range(1, len(numbers) + 1)), "the events have no gap"
    assert set(hub.deaths) <= {-signal.SIGKILL}
    return seen


def test_t02_a_hub_killed_at_a_call_of_its_redo_journal_loses_and_doubles_nothing(folder: Path) -> None:
    """Before or after a write or a sync of the journal: nothing acknowledged is gone, the same key the same task."""
    points = [(REDO, kill, nth, call) for nth in (1, 2, 4) for call in ("write", "sync") for kill in KILLS]
    with fragile_hub(folder) as hub:
        assert len(die_at(hub, points)) >= 9


def test_t02_a_hub_killed_between_an_acknowledgement_and_its_commit_loses_and_doubles_nothing(folder: Path) -> None:
    """Killed as it sends, or as it writes to the log what the journal has: the next one takes it over."""
    points = [(LOG, kill, nth, "write") for nth in (1, 2, 3) for kill in KILLS]
    points += [(REDO, kill, nth, "send") for nth in (1, 3) for kill in KILLS]
    with fragile_hub(folder) as hub:
        assert len(die_at(hub, points)) >= 8


@pytest.mark.soak
def test_t02_soak_a_hub_that_notes_killed_before_and_after_every_call(folder: Path) -> None:
    """The same at each of the first calls that a history makes, whatever they are."""
    nths = range(1, 40)
    points = [("/hub/hub.sqlite", kill, nth, call) for call in ("write", "sync") for nth in nths for kill in KILLS]
    with fragile_hub(folder) as hub:
        deaths = die_at(hub, points)
    print(f"T2 redo journal: {len(points)} histories, {len(deaths)} deaths, 0 lost, 0 doubled")

    assert len(deaths) > 40


def test_t02_an_answer_leaves_before_its_commit(alone: FragileHub) -> None:
    """A hub that dies as it writes to its log has answered already: what the rows above are about does happen."""
    task = acknowledged_only(alone)
    alone.start_hub()

    assert alone.task(task)["state"] == "queued"


# --- T24: its disk fails ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("match, call", [(REDO, "write"), (REDO, "sync"), (LOG, "flush")])
def test_t24_a_redo_journal_that_fails_ends_the_hub_and_nothing_is_acknowledged_after_it(
    alone: FragileHub, match: str, call: str
) -> None:
    """So does a log that cannot begin to be written. What was not synced is taken away; all acknowledged is there."""
    for nth in (1, 3):
        alone.warm()
        alone.disk.forget()
        alone.disk.match = match
        alone.disk.arm("EIO", nth, calls=(call,))
        acknowledged = lone_tasks(alone, 40)
        assert len(acknowledged) < 40
        assert alone.hub is not None
        assert alone.hub.wait(PATIENCE_S) == 1

        lose_unsynced(alone.disk.seen())
        alone.disk.mend()
        alone.start_hub()
        for task in acknowledged:
            assert alone.task(task)["state"] == "queued"


def test_t24_a_redo_journal_without_room_costs_nothing_but_time(alone: FragileHub) -> None:
    """Each batch is committed with the store as any other; a hub that is killed then has all of it."""
    alone.warm()
    alone.disk.forget()
    alone.disk.match = REDO
    alone.disk.arm("ENOSPC", calls=("write",), times=0)
    acknowledged = lone_tasks(alone, 12)
    refused = [call for call in alone.disk.seen() if call.errno and is_noted(call)]
    alone.kill(alone.hub)
    lose_unsynced(alone.disk.seen())
    alone.disk.mend()
    alone.start_hub()

    assert refused
    assert len(acknowledged) == 12
    for task in acknowledged:
        assert alone.task(task)["state"] == "queued"


def lone_tasks(hub: FragileHub, count: int) -> list[str]:
    """Send tasks one by one until the hub is gone; those that were acknowledged."""
    acknowledged: list[str] = []
    with contextlib.suppress(OSError, http.client.HTTPException, Refused):
        for _ in range(count):
            acknowledged += [hub.submit(**LONE)]
    return acknowledged


# --- T29: without a hub -----------------------------------------------------------------------------------------------


def acknowledged_only(hub: FragileHub) -> str:
    """Kill the hub as it takes to its store what it has acknowledged; the task that only the journal has."""
    for _ in range(20):
        hub.warm()
        hub.disk.match = LOG
        hub.disk.arm("kill-before", calls=("write",))
        acknowledged = lone_tasks(hub, 100)
        assert hub.hub is not None
        assert hub.hub.wait(PATIENCE_S) == -signal.SIGKILL
        hub.disk.mend()
        if acknowledged and acknowledged[-1] not in tasks_in(store_of(hub)):
            assert left_of(hub) == 1
            return acknowledged[-1]
        hub.start_hub()  # it died of another commit
    message = "it always died of another commit"
    raise AssertionError(message)


def store_of(hub: Mesh) -> Path:
    return hub.data_dir / "hub.sqlite"


def tasks_in(store: Path) -> set[str]:
    with contextlib.closing(connect(str(store), 1.0, read_only=True)) as connection:
        return {str(row[0]) for row in connection.execute("SELECT id FROM tasks")}


def left_of(hub: Mesh) -> int:
    """Commits that the store lacks and the journal has."""
    with contextlib.closing(connect(str(store_of(hub)), 1.0, read_only=True)) as connection:
        return len(pending(store_of(hub), progress(connection)))


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a person runs it."""
    return subprocess.run(
        [sys.executable, "-m", "agentcom", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_t29_a_backup_without_a_hub_holds_what_only_the_journal_has(alone: FragileHub) -> None:
    """And changes neither of them: the hub that starts next takes it over as well."""
    task = acknowledged_only(alone)
    before = redo_of(store_of(alone)).read_bytes()
    out = alone.folder / "copy.sqlite"
    made = command("backup", "--data-dir", str(alone.data_dir), "--out", str(out))

    assert made.returncode == 0, made.stderr
    assert task in tasks_in(out)
    assert left_of(alone) == 1
    assert redo_of(store_of(alone)).read_bytes() == before


def test_t29_a_read_only_hub_says_what_only_the_journal_has(alone: FragileHub) -> None:
    """It shows the store as it is, and says how to have the rest."""
    task = acknowledged_only(alone)
    alone.start_hub("--read-only", is_ready=False)
    store = alone.call("GET", "/api/v1/health")["components"]["store"]

    assert "its last commit is still in hub.sqlite-redo: a hub that starts here puts that in" in json.dumps(store)
    with pytest.raises(Refused) as refused:
        alone.task(task)
    assert refused.value.status == 404
    assert left_of(alone) == 1


def test_t29_a_restore_moves_the_journal_aside_with_its_store(alone: FragileHub) -> None:
    """What it holds belongs to the store that was there: the restored one has none of it, and the old one all."""
    kept = alone.submit(**LONE)
    copy = alone.call("POST", "/api/v1/backups")["path"]
    task = acknowledged_only(alone)
    journal = redo_of(store_of(alone)).read_bytes()
    restored = command("restore", copy, "--data-dir", str(alone.data_dir), "--yes", "--json")
    assert restored.returncode == 0, restored.stderr
    [aside] = alone.data_dir.glob("replaced-*")
    alone.start_hub()

    assert (aside / "hub.sqlite-redo").read_bytes() == journal
    assert alone.task(kept)["state"] == "queued"
    with pytest.raises(Refused) as refused:
        alone.task(task)
    assert refused.value.status == 404
    found = command("backup", "--data-dir", str(aside), "--out", str(alone.folder / "old.sqlite"))
    assert found.returncode == 0, found.stderr
    assert task in tasks_in(alone.folder / "old.sqlite")


def test_t29_a_store_whose_journal_was_deleted_is_not_served(alone: FragileHub) -> None:
    """The mark beside it knows what was acknowledged."""
    acknowledged_only(alone)
    redo_of(store_of(alone)).write_bytes(bytes(REDO_BYTES))
    refused = command("hub", "--data-dir", str(alone.data_dir), "--listen", "127.0.0.1:0")

    assert refused.returncode == 1
    assert "its last 1 commit is gone" in refused.stderr

"""The promises of the sidecar's journal."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import apsw
import pytest
from structlog.testing import capture_logs

from protocol.model import AttemptId, AttemptState
from sidecar.journal import MAX_DONE, Entry, Journal, StateDirInUse, StateLock

FIRST = AttemptId("Arbitrary", 7, "01", 1)
SECOND = AttemptId("Arbitrary", 7, "02", 3)
ROOT = Path(__file__).parents[3]


def test_an_accepted_attempt_is_held_until_it_is_acknowledged(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db") as journal:
        journal.accept(FIRST, b"spec")
        journal.accept(SECOND, b"spec")
        journal.progress(SECOND, AttemptState.VERIFYING, 2)

        assert journal.held() == [
            Entry(FIRST, AttemptState.ACCEPTED, 0, None),
            Entry(SECOND, AttemptState.VERIFYING, 2, None),
        ]

        journal.acknowledged(FIRST)

        assert [entry.attempt for entry in journal.held()] == [SECOND]


def test_a_report_is_kept_over_restarts_until_it_is_acknowledged(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db") as journal:
        journal.accept(FIRST, b"spec")
        journal.finished(FIRST, AttemptState.PASSED, 1, b"report")
    with Journal(tmp_path / "journal.db") as journal:
        assert journal.held() == []
        assert journal.reports() == [Entry(FIRST, AttemptState.PASSED, 1, b"report")]

        journal.acknowledged(FIRST)
    with Journal(tmp_path / "journal.db") as journal:
        assert journal.reports() == []


def test_a_report_without_an_accept_before_it_is_kept_too(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db") as journal:
        journal.finished(FIRST, AttemptState.PASSED, 1, b"report")

        assert journal.reports() == [Entry(FIRST, AttemptState.PASSED, 1, b"report")]


def test_changes_of_one_tick_are_one_transaction(tmp_path: Path) -> None:
    reader = apsw.Connection(str(tmp_path / "journal.db"))
    with Journal(tmp_path / "journal.db") as journal:
        journal.finished(FIRST, AttemptState.PASSED, 1, b"report")
        journal.acknowledged(FIRST)
        journal.accept(SECOND, b"spec")
        before = reader.execute("SELECT count(*) FROM attempts").get
        journal.commit()

        assert before == 0
        assert reader.execute("SELECT task FROM attempts").get == "02"
    reader.close()


def test_what_is_acknowledged_is_forgotten_when_nobody_waits(tmp_path: Path) -> None:
    reader = apsw.Connection(str(tmp_path / "journal.db"))
    kept = "SELECT group_concat(task) FROM attempts"
    with Journal(tmp_path / "journal.db") as journal:
        journal.finished(FIRST, AttemptState.PASSED, 1, b"report")
        journal.commit()
        journal.acknowledged(FIRST)
        journal.accept(SECOND, b"spec")
        journal.commit(tidy=False)
        before = reader.execute(kept).get
        journal.commit()

        assert before == f"{FIRST.task},{SECOND.task}"
        assert reader.execute(kept).get == SECOND.task
    reader.close()


def test_an_acknowledgement_ends_nothing_that_was_written_after_it(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db") as journal:
        journal.finished(FIRST, AttemptState.PASSED, 1, b"report")
        journal.finished(SECOND, AttemptState.PASSED, 1, b"report")
        journal.commit()
        journal.acknowledged(FIRST)
        journal.acknowledged(SECOND)
        journal.accept(FIRST, b"again")
        journal.finished(SECOND, AttemptState.FAILED, 2, b"other", must_last=False)
        journal.commit(tidy=False)
        journal.commit()

        assert [entry.attempt for entry in journal.held()] == [FIRST]
        assert [entry.report for entry in journal.reports()] == [b"other"]


def test_what_is_acknowledged_does_not_pile_up_behind_what_is_urgent(tmp_path: Path) -> None:
    reader = apsw.Connection(str(tmp_path / "journal.db"))
    with Journal(tmp_path / "journal.db") as journal:
        for number in range(3 * MAX_DONE):
            attempt = AttemptId("side", 1, f"{number:03}", 1)
            journal.finished(attempt, AttemptState.PASSED, 1, b"report", must_last=False)
            journal.commit(tidy=False)
            journal.acknowledged(attempt)

        assert 0 < int(reader.execute("SELECT count(*) FROM attempts").get) <= MAX_DONE
    reader.close()


@pytest.mark.parametrize("clock_ms", [1_000, 0, -5, 10**13])
def test_boot_epochs_strictly_increase_whatever_the_clock_does(tmp_path: Path, clock_ms: int) -> None:
    with Journal(tmp_path / "journal.db") as journal:
        first = journal.next_boot(5_000)
    with Journal(tmp_path / "journal.db") as journal:
        second = journal.next_boot(clock_ms)

    assert first == 5_000
    assert second == max(5_001, clock_ms)


def test_a_fresh_journal_does_not_repeat_a_boot_epoch(tmp_path: Path) -> None:
    with Journal(tmp_path / "one.db") as journal:
        lost = journal.next_boot(1_000)
    with Journal(tmp_path / "two.db") as journal:
        assert journal.next_boot(1_001) > lost


CHILD = """
import os, pathlib, sys
from protocol.model import AttemptId, AttemptState
from sidecar.journal import Journal, StateLock
lock = StateLock(pathlib.Path(sys.argv[1]))
journal = Journal(pathlib.Path(sys.argv[1]) / "journal.db")
print(journal.next_boot(5), flush=True)
for number in range(200):
    journal.accept(AttemptId("Arbitrary", 5, f"{number:03}", 1), b"spec")
    journal.finished(AttemptId("Arbitrary", 5, f"{number:03}", 1), AttemptState.PASSED, 1, b"report")
    journal.commit()
    print(number, flush=True)
sys.stdin.read()
"""


def test_what_was_committed_survives_kill_9(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as child:  # fmt: skip
        assert child.stdout is not None
        told = [int(child.stdout.readline()) for _ in range(120)]
        child.send_signal(signal.SIGKILL)
    lock = StateLock(tmp_path)
    with Journal(tmp_path / "journal.db") as journal:
        kept = {entry.attempt.task for entry in journal.reports()}

        assert {f"{number:03}" for number in told[1:]} <= kept
        assert journal.next_boot(0) == 6
    lock.release()


def test_a_second_sidecar_on_one_state_directory_is_refused(tmp_path: Path) -> None:
    lock = StateLock(tmp_path / "state")
    with pytest.raises(StateDirInUse) as caught:
        StateLock(tmp_path / "state")

    assert str(caught.value) == (
        f"another sidecar (process {os.getpid()}) runs on {tmp_path / 'state'};"
        " stop it, or give this one its own --state-dir"
    )

    lock.release()
    StateLock(tmp_path / "state").release()


@pytest.mark.parametrize(
    "damage",
    [b"this is not a database, " * 400, b"SQLite format 3\x00" + bytes(range(256)) * 64],
    ids=["no database", "broken pages"],
)
def test_a_damaged_journal_is_kept_aside_and_a_fresh_one_starts(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(damage)
    path.with_name("journal.db.damaged-1").write_bytes(b"an earlier one")
    with capture_logs() as lines, Journal(path) as journal:
        journal.accept(FIRST, b"spec")

        assert [entry.attempt for entry in journal.held()] == [FIRST]

    assert path.with_name("journal.db.damaged-1").read_bytes() == b"an earlier one"
    assert path.with_name("journal.db.damaged-2").read_bytes() == damage
    assert [(line["event"], line["log_level"]) for line in lines] == [("journal_damaged", "error")]


def test_a_page_that_went_bad_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with Journal(path) as journal:
        for number in range(300):
            journal.finished(AttemptId("A", 1, f"{number:04}", 1), AttemptState.PASSED, 1, b"r" * 200)
    raw = bytearray(path.read_bytes())
    raw[3 * 4096 : 4 * 4096] = b"\xa5" * 4096
    path.write_bytes(raw)
    with capture_logs() as lines, Journal(path) as journal:
        assert journal.reports() == []

    assert lines[0]["event"] == "journal_damaged"
    assert path.with_name("journal.db.damaged-1").read_bytes() == bytes(raw)


def test_a_journal_with_other_columns_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE attempts (x)")
    db.close()
    with capture_logs() as lines, Journal(path) as journal:
        assert journal.held() == []

    assert "unknown columns ['x']" in lines[0]["problem"]


def test_a_refused_commit_is_told_once_and_made_up_for_later(tmp_path: Path) -> None:
    blocker = apsw.Connection(str(tmp_path / "journal.db"))
    with capture_logs() as lines, Journal(tmp_path / "journal.db") as journal:
        blocker.execute("BEGIN IMMEDIATE")
        journal.accept(FIRST, b"spec")
        refused = [journal.commit(), journal.commit()]
        blocker.execute("COMMIT")

        assert refused == [False, False]
        assert journal.commit()
        assert [entry.attempt for entry in journal.held()] == [FIRST]
    blocker.close()

    assert [line["event"] for line in lines] == ["journal_failed", "journal_recovered"]

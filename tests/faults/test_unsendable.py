"""What a sidecar cannot tell its hub, with real processes: an honest failure of that attempt, and no loop.

An older sidecar may have written down a report that its hub does not take, and work may leave what is no text. Neither
may keep what comes behind it from being heard.
"""

import signal
from pathlib import Path

import apsw
import msgpack
import pytest

from tests.support.mesh import Mesh, mesh, until

LONG = "m" * 3_000


def violations(running: Mesh) -> int:
    return len(running.events("agent_violated"))


def left_behind(journal: Path, task: str, report: bytes) -> None:
    """What a sidecar that has ended would have left, had its work come to this report."""
    db = apsw.Connection(str(journal))
    with db:
        db.execute("UPDATE attempts SET state = 'passed', report = ? WHERE task = ?", (report, task))
        assert db.changes() == 1
    db.close()


@pytest.mark.parametrize("what", ["out of bounds", "no report", "no MessagePack"])
def test_what_lies_in_an_old_journal_and_cannot_be_sent_fails_its_attempt(tmp_path: Path, what: str) -> None:
    """The work of an older start is told as failed, once, with the reason; the tasks behind it are done."""
    with mesh(tmp_path, "Old", lease_s=60.0) as running:
        task = running.submit(command="sleep 600", max_retries=0)
        attempt = running.wait_state(task, "running")["attempts"][-1]
        until((tmp_path / "state-Old" / "journal.db").exists, "it is written down")
        running.kill(running.sidecars["Old"])
        agent = running.call("GET", "/api/v1/agents/Old")
        whole = {
            "t": "report",
            "attempt": ["Old", agent["boot_epoch"], task, attempt["epoch"]],
            "state": "passed",
            "result": {"execution_ok": True, "verified": None, "commit": LONG},
        }
        reports = {"out of bounds": whole, "no report": {"t": "ping", "token": 1}}
        left_behind(
            tmp_path / "state-Old" / "journal.db", task, msgpack.packb(reports[what]) if what in reports else b"\xc1"
        )
        running.start_sidecar("Old")
        until(lambda: running.task(task)["attempts"][0]["ended_at"], "the hub has heard how it ended")
        running.call("POST", f"/api/v1/tasks/{task}/cancel", {"reason": "the test is over"})
        [after] = running.wait(running.submit(title="x", executor="noop"))
        first = running.task(task)["attempts"][0]
        journal = apsw.Connection(str(tmp_path / "state-Old" / "journal.db"))
        left = "SELECT count(*) FROM attempts WHERE task = ? AND epoch = ?"
        until(lambda: journal.execute(left, (task, attempt["epoch"])).fetchall() == [(0,)], "it is done with")
        journal.close()

        assert (first["state"], first["failure"]) == ("failed", "infra")
        assert first["result"]["error_code"] == "report_unreadable"
        assert after["state"] == "completed"
        assert violations(running) == 0


def test_a_file_whose_name_is_no_text_is_kept_under_a_name_that_is(tmp_path: Path) -> None:
    """A name in Latin-1 is one in every file system; the report of its task arrives, and so does the next one."""
    with mesh(tmp_path, "Odd") as running:
        command = "printf 'n\\344me' | xargs -0 touch && printf 'out \\344\\n'"
        tasks = running.submit_all([{"command": command, "artifacts": ["**"], "max_retries": 0}, {"command": "true"}])
        odd, plain = running.wait(*tasks)
        running.sidecars["Odd"].send_signal(signal.SIGTERM)
        running.sidecars["Odd"].wait(60)

        assert plain["state"] == "completed"
        assert odd["attempts"][0]["state"] in {"passed", "failed"}
        assert odd["attempts"][0]["result"]["output"].startswith("out ")
        assert violations(running) == 0
        assert "Traceback" not in (tmp_path / "sidecar-Odd.log").read_text()

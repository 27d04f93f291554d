"""What the first light must hold, on real processes: speed of the idle fleet, fairness, kill -9 of either side."""

import statistics
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from protocol.limits import RECONNECT_CAP_S
from tests.support.mesh import Refused, mesh, until, work_of
from tests.support.repositories import CALC, TEST_OF_CALC, make_remote


def _seconds(later: str, earlier: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def test_two_agents_complete_ten_trivial_tasks(tmp_path: Path) -> None:
    with mesh(tmp_path, "One", "Two") as running:
        waits = []
        for _ in range(10):
            [task] = running.wait(running.submit(command="true"))
            assert task["state"] == "completed"
            assert task["result"]["usage"]["model"] == "none"
            assert task["result"]["verified"] is None
            waits.append(_seconds(task["started_at"], task["submitted_at"]))

    # Not an assertion on the clock: a printed figure. The bound is in tests/bench.
    print(f"submit to start, median of {len(waits)}: {statistics.median(waits) * 1000:.1f} ms")


def test_four_agents_share_twenty_tasks_evenly(tmp_path: Path) -> None:
    # All of them fit at once: how quick each agent is on a busy machine decides nothing.
    with mesh(tmp_path, "One", "Two", "Three", "Four", flags=("--slots", "7")) as running:
        tasks = running.wait(*running.submit_all([{"command": "sleep 0.1"}] * 20))

    share = Counter(task["agent"] for task in tasks)
    assert {task["state"] for task in tasks} == {"completed"}
    assert all(3 <= share[name] <= 7 for name in ("One", "Two", "Three", "Four")), share


def test_a_task_survives_its_sidecar_and_no_process_of_it_does(tmp_path: Path) -> None:
    command = "setsid sh -c 'sleep 300' & sleep 4; echo done"
    with mesh(tmp_path, "One", "Two", lease_s=8.0) as running:
        task = running.submit(command=command)
        until(lambda: {"4", "300"} <= {each.cmdline()[-1] for each in work_of(task)}, "both processes have started")
        first = running.task(task)
        running.kill(running.sidecars[first["agent"]])
        until(lambda: not work_of(task, 1), "nothing of the dead attempt is left")
        [ended] = running.wait(task)

    assert ended["state"] == "completed"
    assert ended["agent"] != first["agent"]
    assert [attempt["state"] for attempt in ended["attempts"]] == ["lost", "passed"]
    assert [attempt["accepted"] for attempt in ended["attempts"]] == [False, True]
    assert ended["retries_left"] == 3, "a lost machine costs no retry"


MOST = 60
"""Commands that two slots get done in time, on whatever machine."""


def test_nothing_acknowledged_is_lost_when_the_hub_is_killed_under_load(tmp_path: Path) -> None:
    # A lease is to be longer than a sidecar waits between two tries, of which each may fall into a time without a hub.
    with mesh(tmp_path, "One", "Two", flags=("--sandbox", "unsafe"), lease_s=2 * RECONNECT_CAP_S) as running:
        acknowledged: list[str] = []
        long = running.submit(command="sleep 3; echo survived")
        running.wait_state(long, "running")
        for _ in range(3):
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline and len(acknowledged) < MOST:
                acknowledged += running.submit_all([{"command": "true"}] * 5)
            running.kill(running.hub)
            running.start_hub()
        ended = running.wait(long, *acknowledged)
        starts = Counter(event["task"] for event in running.events("task_completed"))

    assert {task["state"] for task in ended} == {"completed"}
    assert all(count == 1 for count in starts.values()), "each result is accepted once"
    assert all(sum(attempt["accepted"] for attempt in task["attempts"]) == 1 for task in ended)
    assert [attempt["epoch"] for attempt in ended[0]["attempts"]] == [1], "running work went on"


def test_a_cancelled_task_leaves_no_process_and_stays_cancelled(tmp_path: Path) -> None:
    with mesh(tmp_path, "One") as running:
        task = running.submit(command="trap '' TERM; while :; do sleep 1; done")
        until(lambda: work_of(task), "it runs")
        running.call("POST", f"/api/v1/tasks/{task}/cancel", {"reason": "not needed"})
        until(lambda: not work_of(task), "its process is gone")
        running.wait_agents("One")
        ended = running.task(task)

    assert ended["state"] == "cancelled"
    assert ended["reason"] == "not needed"


def test_old_minimal_tasks_are_taken(tmp_path: Path) -> None:
    with mesh(tmp_path, "One") as running:
        [command] = running.wait(running.submit(command="true"))
        titled = running.submit(title="x")
        explained = running.call("GET", f"/api/v1/tasks/{titled}/explain")

    assert command["state"] == "completed"
    assert "no agent that is online can do it" in explained["summary"]
    assert any("Ollama" in way for way in explained["unblock"])


def test_a_repository_that_does_not_exist_fails_at_once_and_says_so(tmp_path: Path) -> None:
    with mesh(tmp_path, "One") as running:
        [task] = running.wait(running.submit(command="true", context={"repo": str(tmp_path / "nowhere")}))

    assert task["state"] == "failed"
    assert task["result"]["error_code"] == "repository_missing"
    assert "nowhere" in task["result"]["error"]
    assert len(task["attempts"]) == 1, "what cannot work anywhere is not retried"


def test_a_failing_command_is_retried_and_then_dead_until_a_person_wants_it_again(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    with mesh(tmp_path, "One") as running:
        [dead] = running.wait(running.submit(command=f"test -e {flag}", max_retries=1))
        with pytest.raises(Refused) as refused:
            running.call("POST", f"/api/v1/tasks/{dead['id']}/cancel")
        flag.touch()
        running.call("POST", f"/api/v1/tasks/{dead['id']}/retry")
        [again] = running.wait(dead["id"])

    assert dead["state"] == "dead"
    assert [attempt["failure"] for attempt in dead["attempts"]] == ["agent", "agent"]
    assert refused.value.status == 409
    assert again["state"] == "completed"


def test_red_becomes_green_on_a_branch_of_its_own(tmp_path: Path) -> None:
    origin = make_remote(tmp_path, {"calc.py": CALC, "test_calc.py": TEST_OF_CALC})
    fix = "if [ $AGENTCOM_ITERATION = 1 ]; then echo looking; else sed -i 's/a - b/a + b/' calc.py; fi"
    with mesh(tmp_path, "One") as running:
        spec = {
            "title": "Repair add",
            "command": fix,
            "context": {"repo": str(origin.path)},
            "verification": [{"type": "test_passes", "command": "python3 -m unittest -q"}],
        }
        [task] = running.wait(running.submit(**spec))

    result = task["result"]
    assert task["state"] == "completed"
    assert result["verified"] is True
    assert [iteration["passed"] for iteration in result["iterations"]] == [False, True]
    assert result["branch"] == f"agentcom/one/repair-add-{task['id']}-e1"
    assert "a + b" in origin.show(result["branch"], "calc.py")
    assert origin.tip(result["branch"]) == result["commit"]

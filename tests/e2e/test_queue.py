"""How the queue treats tasks over time: order, delays, deadlines, dependencies, draining. One real mesh for all."""

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support.mesh import Mesh, Refused, mesh


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with mesh(tmp_path_factory.mktemp("mesh"), "One") as found:
        yield found


def _in(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def _gate(running: Mesh) -> tuple[Path, str]:
    """A file, and a command that waits until it is there."""
    gate = running.folder / f"gate-{uuid4().hex}"
    return gate, f"until [ -e {gate} ]; do sleep 0.05; done"


@contextlib.contextmanager
def _busy(running: Mesh) -> Iterator[str]:
    """The task that the one agent works on until the block ends."""
    gate, command = _gate(running)
    task = running.submit(command=command)
    running.wait_state(task, "running")
    try:
        yield task
    finally:
        gate.touch()


def test_urgent_goes_first_and_equals_go_by_age(running: Mesh) -> None:
    order = ["low", "normal", "normal", "urgent", "high"]
    with _busy(running):
        ids = [running.submit(command="true", priority=p, title=f"{n} {p}") for n, p in enumerate(order)]
    ended = running.wait(*ids)

    by_start = sorted(ended, key=lambda task: task["started_at"])
    assert [task["title"] for task in by_start] == ["3 urgent", "4 high", "1 normal", "2 normal", "0 low"]


def test_a_delayed_task_waits_for_its_time(running: Mesh) -> None:
    far = running.submit(command="true", run_after=_in(3_600.0))
    before = running.task(far)
    explained = running.call("GET", f"/api/v1/tasks/{far}/explain")
    running.call("POST", f"/api/v1/tasks/{far}/cancel")
    [ended] = running.wait(running.submit(command="true", run_after=_in(1.0)))

    assert (before["state"], before["attempts"]) == ("queued", [])
    assert "may start in" in explained["summary"]
    assert datetime.fromisoformat(ended["started_at"]) >= datetime.fromisoformat(ended["spec"]["run_after"])


def test_a_task_that_nobody_takes_in_time_fails(running: Mesh) -> None:
    [ended] = running.wait(running.submit(command="true", needs=["nowhere"], ttl_s=0.3))

    assert (ended["state"], ended["reason"], ended["attempts"]) == ("failed", "ttl_s has passed", [])


def test_a_deadline_ends_running_work(running: Mesh) -> None:
    [ended] = running.wait(running.submit(command="sleep 60", complete_by=_in(4.0)))
    running.wait_agents("One")

    assert (ended["state"], ended["reason"]) == ("failed", "complete_by has passed")
    assert ended["attempts"][0]["failure"] == "deadline"


def test_a_task_waits_for_what_it_depends_on(running: Mesh) -> None:
    gate, command = _gate(running)
    first = running.submit(command=command)
    second = running.submit(command="true", depends_on=[first])
    before = running.task(second)
    explained = running.call("GET", f"/api/v1/tasks/{second}/explain")
    gate.touch()
    [one, two] = running.wait(first, second)

    assert before["state"] == "blocked"
    assert first in explained["summary"]
    assert two["state"] == "completed"
    assert two["started_at"] >= one["ended_at"]


def test_what_depends_on_a_failure_fails_with_it(running: Mesh) -> None:
    gate, command = _gate(running)
    first = running.submit(command=f"{command}; exit 1", max_retries=0)
    second = running.submit(command="true", depends_on=[first])
    third = running.submit(command="true", depends_on=[second])
    gate.touch()
    [_, two, three] = running.wait(first, second, third)

    assert (two["state"], three["state"]) == ("failed", "failed")
    assert first in two["reason"]


def test_a_dependency_that_does_not_exist_is_refused(running: Mesh) -> None:
    with pytest.raises(Refused) as refused:
        running.submit(command="true", depends_on=["0" * 26])

    assert refused.value.status == 422
    assert refused.value.problem["errors"][0]["path"] == "depends_on[0]"


def test_a_batch_is_stored_whole_or_not_at_all(running: Mesh) -> None:
    count = len(running.call("GET", "/api/v1/tasks?limit=500")["tasks"])
    bad: list[dict[str, Any]] = [
        {"command": "true"},
        {"titel": "x"},
        {"command": "true", "verification": [{"type": "file_exists"}]},
    ]
    with pytest.raises(Refused) as refused:
        running.submit_all(bad)

    assert {problem["path"] for problem in refused.value.problem["errors"]} >= {
        "tasks[1].titel",
        "tasks[2].verification[0].path",
    }
    assert len(running.call("GET", "/api/v1/tasks?limit=500")["tasks"]) == count


def test_the_same_key_gives_the_same_task(running: Mesh) -> None:
    body = {"command": "true", "title": "once"}
    one = running.call("POST", "/api/v1/tasks", body, Idempotency_Key="k-1")
    two = running.call("POST", "/api/v1/tasks", body, Idempotency_Key="k-1")
    with pytest.raises(Refused) as refused:
        running.call("POST", "/api/v1/tasks", {**body, "title": "twice"}, Idempotency_Key="k-1")

    assert one["id"] == two["id"]
    assert (refused.value.status, refused.value.problem["code"]) == (409, "idempotency_conflict")


def test_a_drained_agent_finishes_and_takes_nothing_new(running: Mesh) -> None:
    with _busy(running) as work:
        running.call("POST", "/api/v1/agents/One/drain")
        waiting = running.submit(command="true")
    [done] = running.wait(work)
    time.sleep(0.3)  # an eager scheduler would have given it away by now
    held_back = running.task(waiting)
    explained = running.call("GET", f"/api/v1/tasks/{waiting}/explain")
    running.call("POST", "/api/v1/agents/One/resume")
    [ended] = running.wait(waiting)

    assert done["state"] == "completed"
    assert held_back["state"] == "queued"
    assert explained["agents"][0]["reasons"] == ["is draining"]
    assert ended["state"] == "completed"


def test_output_is_kept_and_can_be_read(running: Mesh) -> None:
    [ended] = running.wait(running.submit(command="echo out; echo err >&2"))
    pieces = running.call("GET", f"/api/v1/tasks/{ended['id']}/logs")["logs"]

    assert {(piece["stream"], piece["text"].strip()) for piece in pieces} >= {("stdout", "out"), ("stderr", "err")}
    assert set(ended["result"]["output"].split()) == {"out", "err"}


def test_context_criteria_and_checks_reach_the_sidecar_whole(running: Mesh) -> None:
    spec = {
        "title": "Everything",
        "command": "touch a.py; true",
        "context": {"files": ["a.py"], "notes": 'näive\n"quotes"'},
        "success_criteria": ["it is there", "it is empty"],
        "verification": [
            {"type": "file_exists", "path": "a.py", "name": "there"},
            {"type": "command_succeeds", "command": "test ! -s a.py", "timeout_s": 5.0},
            {"type": "test_passes", "command": "true"},
        ],
        "labels": {"team": "blue"},
        "budget": {"tokens": 5, "usd": 0.1, "seconds": 60.0, "fix_attempts": 0},
    }
    [ended] = running.wait(running.submit(**spec))

    assert {name: ended["spec"][name] for name in spec} == spec
    assert ended["result"]["report"][0]["name"] == "there"
    assert ended["verified"] is True

"""What a run has left behind, judged: every acknowledged task, its attempts and its events, read over HTTP.

The rules are those of the store's contract, looked at from outside: nothing acknowledged is lost, at most one attempt
of a task is accepted, epochs rise, events follow the table of task states and their numbers leave no gap.
"""

import contextlib
import http.client
import json
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from hub.core.task import TASK_EDGES
from protocol.model import FINAL_STATES, TaskState
from tests.support.mesh import LOOK_S, Mesh

Plain = dict[str, Any]

MOVES: Final[dict[str, frozenset[str]]] = {
    "task_queued": frozenset({"unblock", "retry"}),
    "task_assigned": frozenset({"claim"}),
    "task_started": frozenset({"accept"}),
    "task_completed": frozenset({"complete"}),
    "task_failed": frozenset({"fail"}),
    "task_cancelled": frozenset({"cancel"}),
    "task_requeued": frozenset({"requeue", "answer"}),
    "task_dead": frozenset({"give_up"}),
}
"""Events that move a task, by the edges of the table that they may stand for; all others move nothing."""

ENDS: Final = frozenset({"task_completed", "task_failed", "task_cancelled", "task_dead"})

RESULTS: Final[dict[str, set[int]]] = {"completed": {1}, "failed": {0, 1}, "dead": {0, 1}}
"""How many accepted attempts a task in this state may have; a failure may have left its result."""

FIRST: Final = {"task_queued": TaskState.QUEUED, "task_blocked": TaskState.BLOCKED}


@dataclass(frozen=True, slots=True)
class History:
    """The figures of a run that was found to be sound."""

    tasks: int
    states: dict[str, int]
    attempts: int
    accepted: int
    stale: int
    """Reports that came too late and changed nothing."""
    events: int

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))
        return (
            f"{self.tasks} tasks ({ends}); {self.attempts} attempts, {self.accepted} accepted,"
            f" {self.stale} stale reports; {self.events} events"
        )


def assert_nothing_lost(
    mesh: Mesh, acknowledged: Collection[str], *, idle: Collection[str] = (), is_over: bool = True
) -> History:
    """Judge the hub's whole memory against what it has acknowledged.

    Args:
        mesh: a mesh whose hub runs.
        acknowledged: ids that the hub has answered to submitters, all of them: a task beside them is one too many.
        idle: more of those; nobody can do them, so all of them must still be queued.
        is_over: every acknowledged task must have ended.
    """
    assert len(set(acknowledged)) == len(acknowledged), "an id was given out twice"
    events = mesh.events()
    numbers = [event["seq"] for event in events]
    assert numbers == list(range(1, len(numbers) + 1)), "the log of events has a gap, or goes back"
    told: dict[str, list[Plain]] = {}
    for event in events:
        if event.get("task"):
            told.setdefault(event["task"], []).append(event)
    known = {*acknowledged, *idle}
    assert known <= set(told), f"no event tells of {sorted(known - set(told))[:5]}"
    assert set(told) <= known, f"nobody knows of {sorted(set(told) - known)[:5]}"
    moved = [task for task in idle if [event["kind"] for event in told[task]] != ["task_queued"]]
    assert not moved, f"{len(moved)} tasks that nobody can do have moved: {moved[:5]}"

    tasks = list(views(mesh, acknowledged))
    wrong = [problem for task in tasks for problem in problems(task, told[task["id"]], is_over=is_over)]
    assert not wrong, "\n".join([f"{len(wrong)} problems:", *wrong[:20]])
    return History(
        tasks=len(tasks),
        states=dict(Counter(task["state"] for task in tasks)),
        attempts=sum(len(task["attempts"]) for task in tasks),
        accepted=sum(attempt["accepted"] for task in tasks for attempt in task["attempts"]),
        stale=sum(event["kind"] == "report_stale" for event in events),
        events=len(events),
    )


def views(mesh: Mesh, tasks: Iterable[str]) -> Iterator[Plain]:
    """Tasks, whole, over one connection."""
    address = mesh.url.removeprefix("http://")
    with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as hub:
        headers = {"Authorization": f"Bearer {mesh.token()}"}
        for task in tasks:
            hub.request("GET", f"/api/v1/tasks/{task}", headers=headers)
            answer = hub.getresponse()
            text = answer.read()
            assert answer.status == HTTPStatus.OK, f"task {task}: {answer.status} {text[:200]!r}"
            yield json.loads(text)


def wait_ended(mesh: Mesh, tasks: Collection[str], timeout_s: float = 60.0) -> None:
    """Wait until the log of events tells of the end of all of these tasks."""
    deadline = time.monotonic() + timeout_s
    waiting, after = set(tasks), 0
    while waiting:
        page = mesh.call("GET", f"/api/v1/events?after={after}&limit=500", Accept="application/json")["events"]
        waiting -= {event["task"] for event in page if event["kind"] in ENDS}
        after = page[-1]["seq"] if page else after
        if not page:
            assert time.monotonic() < deadline, f"{len(waiting)} tasks have not ended, {min(waiting)} one of them"
            time.sleep(LOOK_S)


def problems(task: Plain, events: Iterable[Plain], *, is_over: bool = True) -> list[str]:
    """Everything that is wrong with one task (as ``GET /tasks/{id}`` shows it) and its events, in order."""
    state, found = _walk(events)
    attempts = task["attempts"]
    accepted = [attempt["epoch"] for attempt in attempts if attempt["accepted"]]
    epochs = [attempt["epoch"] for attempt in attempts]
    if state != task["state"]:
        found.append(f"its events end in {state}, it is {task['state']}")
    if is_over and task["state"] not in FINAL_STATES:
        found.append(f"it has not ended: {task['state']}, {task['reason']!r}")
    if len(accepted) > 1:
        found.append(f"attempts {accepted} were all accepted")
    if len(accepted) not in RESULTS.get(task["state"], {0}):
        found.append(f"it is {task['state']} with {len(accepted)} accepted attempts")
    if accepted and accepted[0] != max(epochs):
        found.append(f"attempt {accepted[0]} of {epochs} was accepted")
    if epochs != sorted(set(epochs)):
        found.append(f"its epochs do not rise: {epochs}")
    if attempts and task["epoch"] != epochs[-1]:
        found.append(f"its epoch is {task['epoch']}, its last attempt {epochs[-1]}")
    return [f"task {task['id']}: {problem}" for problem in found]


def _walk(events: Iterable[Plain]) -> tuple[TaskState | None, list[str]]:
    """Where the events lead, and every step that the table of states does not allow."""
    state: TaskState | None = None
    epoch = 0
    found = []
    for event in events:
        kind = event["kind"]
        if kind == "task_assigned":
            if event["epoch"] <= epoch:
                found.append(f"assigned under epoch {event['epoch']} after {epoch}")
            epoch = event["epoch"]
        if kind not in MOVES and kind not in FIRST:
            continue
        if state is None:
            state = FIRST.get(kind)
            if state is None:
                found.append(f"its first event is {kind}")
            continue
        ways = [TASK_EDGES[state, edge] for edge in MOVES.get(kind, ()) if (state, edge) in TASK_EDGES]
        if not ways:
            found.append(f"{kind} in state {state.value}")
            continue
        state = ways[0]
    return state, found

"""The judge of real runs: a sound history passes, and each kind of damage is found and told."""

from typing import Any

import pytest

from tests.support.history import problems

Plain = dict[str, Any]


def attempt(epoch: int, *, accepted: bool = False) -> Plain:
    return {"epoch": epoch, "accepted": accepted}


def task(state: str = "completed", *attempts: Plain) -> Plain:
    held = list(attempts) or [attempt(1), attempt(2, accepted=True)]
    return {"id": "t", "state": state, "reason": "", "epoch": held[-1]["epoch"], "attempts": held}


def events(*kinds: str) -> list[Plain]:
    epoch, found = 0, []
    for kind in kinds:
        epoch += kind == "task_assigned"
        found.append({"kind": kind, "epoch": epoch})
    return found


SOUND = ("task_queued", "task_assigned", "attempt_lost", "task_requeued", "task_assigned", "task_started")


def test_a_task_that_was_lost_once_and_then_completed_is_sound() -> None:
    assert problems(task(), events(*SOUND, "report_stale", "task_completed")) == []


def test_a_dead_task_may_have_left_its_result_and_a_cancelled_one_may_not() -> None:
    begun = ("task_queued", "task_assigned", "task_started")

    assert problems(task("dead", attempt(1, accepted=True)), events(*begun, "task_dead")) == []
    assert problems(task("cancelled", attempt(1, accepted=True)), events(*begun, "task_cancelled")) == [
        "task t: it is cancelled with 1 accepted attempts"
    ]


def test_a_task_that_still_runs_is_sound_if_the_run_is_not_over() -> None:
    running = task("running", attempt(1), attempt(2))

    assert problems(running, events(*SOUND), is_over=False) == []
    assert problems(running, events(*SOUND)) == ["task t: it has not ended: running, ''"]


def test_a_dead_task_that_a_person_retried_is_sound() -> None:
    told = events("task_blocked", "task_queued", "task_assigned", "task_dead", "task_queued", "task_cancelled")

    assert problems(task("cancelled", attempt(1)), told) == []


@pytest.mark.parametrize(
    "damaged, told, problem",
    [
        (task(), events(*SOUND), "its events end in running, it is completed"),
        (task(), events(*SOUND, "task_completed", "task_started"), "task_started in state completed"),
        (task(), events(*SOUND[1:], "task_completed"), "its first event is task_assigned"),
        (
            task("completed", attempt(1, accepted=True), attempt(2, accepted=True)),
            events(*SOUND, "task_completed"),
            "attempts [1, 2] were all accepted",
        ),
        (
            task("completed", attempt(1, accepted=True), attempt(2)),
            events(*SOUND, "task_completed"),
            "attempt 1 of [1, 2] was accepted",
        ),
        (
            task("completed", attempt(1), attempt(2)),
            events(*SOUND, "task_completed"),
            "it is completed with 0 accepted attempts",
        ),
        (
            task("completed", attempt(2), attempt(2, accepted=True)),
            events(*SOUND, "task_completed"),
            "its epochs do not rise: [2, 2]",
        ),
        (
            {**task(), "epoch": 3},
            events(*SOUND, "task_completed"),
            "its epoch is 3, its last attempt 2",
        ),
        (
            task(),
            [*events(*SOUND), {"kind": "task_requeued", "epoch": 2}, {"kind": "task_assigned", "epoch": 2}],
            "assigned under epoch 2 after 2",
        ),
    ],
)
def test_damage_is_found_and_told(damaged: Plain, told: list[Plain], problem: str) -> None:
    assert f"task t: {problem}" in problems(damaged, told)

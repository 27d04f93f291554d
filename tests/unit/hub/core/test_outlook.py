"""The estimate of when a task begins: from what stands before it, spread over the places where it could go."""

import pytest
from msgspec.structs import replace

from hub.core.agent import Held
from hub.core.board import Board
from hub.core.fleet import Fleet
from hub.core.matching import Matcher
from hub.core.outlook import Outlook, level
from hub.core.routing import Requirements
from hub.core.speeds import Speeds
from protocol.model import Residency, Strategy
from tests.support.machines import add, model

SHELL = Requirements(executor="shell", strategies=(Strategy.TRIVIAL,))
CHAT = Requirements(executor="chat", strategies=(Strategy.LOCAL_LLM,), model="m")
ELSEWHERE = Requirements(executor="shell", strategies=(Strategy.TRIVIAL,), needs=("moon",))


def outlook(fleet: Fleet, speeds: Speeds, now: float = 100.0) -> Outlook:
    return Outlook(fleet, Matcher(fleet), speeds, Board(fleet, speeds, now), now)


def fleet(*names: str, slots: int = 2) -> Fleet:
    made = Fleet()
    for name in names:
        add(made, name, model("m", 4.0, Residency.WARM), slots=slots)
    return made


def hold(made: Fleet, agent: str, task: str, ends_at: float, *, on_model: bool = False) -> None:
    held = Held(task, 1, agent, 1, 0.0, ends_at=ends_at)
    if on_model:
        held.server, held.model, held.service_s = (agent, "ollama"), "m", ends_at - 100.0
    made.take(held)


@pytest.mark.parametrize(
    "free, work_s, at",
    [
        ([0.0], 0.0, 0.0),
        ([3.0, 9.0], 0.0, 3.0),
        ([0.0, 0.0], 10.0, 5.0),
        ([0.0, 4.0], 3.0, 3.0),  # the first place alone takes it
        ([0.0, 4.0], 8.0, 6.0),
        ([1.0, 2.0, 30.0], 9.0, 6.0),
    ],
)
def test_work_fills_the_places_from_the_one_that_is_free_first(free: list[float], work_s: float, at: float) -> None:
    assert level(free, work_s) == at


def test_nobody_can_tell_when_a_task_begins_that_nobody_can_do() -> None:
    assert outlook(fleet("a"), Speeds()).starts_in(ELSEWHERE, {}) is None
    assert outlook(Fleet(), Speeds()).starts_in(SHELL, {SHELL.text: 3}) is None


def test_a_free_place_means_at_once_and_a_queue_before_it_takes_its_time() -> None:
    speeds = Speeds()
    speeds.lasted(SHELL.kind, 6.0)
    made = fleet("a", "b")

    assert outlook(made, speeds).starts_in(SHELL, {}) == 0.0
    assert outlook(made, speeds).starts_in(SHELL, {SHELL.text: 10}) == 15.0  # 60 s on four slots


def test_a_full_fleet_begins_the_next_task_when_the_first_slot_is_free() -> None:
    made = fleet("a", slots=2)
    hold(made, "a", "t", 107.0)
    hold(made, "a", "u", 120.0)

    assert outlook(made, Speeds()).starts_in(SHELL, {}) == 7.0


def test_what_could_not_go_to_the_same_agents_does_not_count() -> None:
    speeds = Speeds()
    speeds.lasted(SHELL.kind, 6.0)
    made = fleet("a", "b")
    made.agents["b"].capabilities |= {"moon"}
    made.changed()

    assert outlook(made, speeds).starts_in(ELSEWHERE, {SHELL.text: 4}) == 6.0  # half of 24 s, on two slots
    assert outlook(fleet("a"), speeds).starts_in(SHELL, {ELSEWHERE.text: 100}) == 0.0


def test_work_for_models_waits_for_servers_and_not_for_slots() -> None:
    speeds, made = Speeds(), fleet("a", slots=8)
    hold(made, "a", "t", 112.0, on_model=True)
    service_s = 800 / 1_000 + 400 / 50  # what is expected of chat before any has ended
    found = outlook(made, speeds).starts_in(replace(CHAT, by="me"), {CHAT.text: 3, SHELL.text: 500})

    assert found == pytest.approx(12.0 + 3 * service_s)


def test_what_is_asked_of_the_fleet_does_not_grow_with_the_tasks_that_wait() -> None:
    made = fleet("a", "b")
    asked = []
    for tasks in (10, 10_000):
        matcher = Matcher(made)
        Outlook(made, matcher, Speeds(), Board(made, Speeds(), 0.0), 0.0).starts_in(SHELL, {SHELL.text: tasks})
        asked.append(matcher.candidates)

    assert asked == [2, 2]

"""The promises of the plan: urgent before old before new over all classes, fair to agents, no class in the way."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hub.core.agent import Held
from hub.core.fleet import Fleet
from hub.core.matching import Matcher
from hub.core.routing import class_after
from hub.core.scheduling import Assignment, choose, plan
from hub.core.window import Window
from protocol.limits import ALONE_FROM_DEATHS
from protocol.model import AgentState

SHELL = '{"executor":"shell","strategies":["trivial"]}'
ALONE = class_after(SHELL, ALONE_FROM_DEATHS)
NOOP = '{"executor":"noop","strategies":["trivial"]}'
GPU = '{"executor":"shell","needs":["gpu"],"strategies":["trivial"]}'


def fleet(slots: int = 1, **agents: str) -> Fleet:
    made = Fleet()
    for name, capabilities in agents.items():
        agent = made.agent(name)
        agent.state, agent.slots = AgentState.IDLE, slots
        agent.capabilities = frozenset(f"executor:{c}" if c != "gpu" else c for c in capabilities.split())
    return made


def window(*entries: tuple[str, int, str]) -> Window:
    made = Window()
    for text, priority, task in entries:
        made.add(text, (priority, task))
    return made


def planned(window: Window, fleet: Fleet) -> list[Assignment]:
    """The plan, each assignment taken as the hub takes it."""
    made = []
    for assignment in plan(window, fleet, Matcher(fleet)):
        alone = assignment.queue.requirements.alone
        fleet.take(Held(assignment.place[1], 1, assignment.agent.name, 1, 0.0, alone=alone))
        made.append(assignment)
    return made


def who(assignments: list[Assignment]) -> list[tuple[str, str]]:
    return [(a.place[1], a.agent.name) for a in assignments]


def test_lanes_go_by_urgency_then_by_age_over_all_classes() -> None:
    waiting = window((SHELL, 2, "b"), (NOOP, 2, "a"), (NOOP, 0, "z"), (SHELL, 1, "c"), (SHELL, 3, "0"))
    made = planned(waiting, fleet(slots=9, one="shell noop"))

    assert [a.place for a in made] == [(0, "z"), (1, "c"), (2, "a"), (2, "b"), (3, "0")]


@given(st.lists(st.tuples(st.sampled_from([SHELL, NOOP]), st.integers(0, 3)), max_size=30), st.integers(0, 2**32))
def test_whatever_waits_leaves_in_one_order(entries: list[tuple[str, int]], seed: int) -> None:
    named = [(text, priority, f"{number:03}") for number, (text, priority) in enumerate(entries)]
    random.Random(seed).shuffle(named)
    made = planned(window(*named), fleet(slots=20, one="shell noop", two="shell noop"))

    assert [a.place for a in made] == sorted((priority, task) for _, priority, task in named)


def test_a_class_that_nobody_can_serve_holds_up_no_other() -> None:
    waiting = window(*((GPU, 0, f"g{n}") for n in range(5)), (SHELL, 3, "s"))
    made = planned(waiting, fleet(one="shell"))

    assert who(made) == [("s", "one")]
    assert len(waiting.classes[GPU]) == 5


def test_a_class_whose_agents_are_busy_holds_up_no_other() -> None:
    waiting = window((GPU, 0, "g1"), (GPU, 0, "g2"), (SHELL, 3, "s"))
    made = planned(waiting, fleet(strong="gpu shell", weak="shell"))

    assert who(made) == [("g1", "strong"), ("s", "weak")]
    assert waiting.classes[GPU].head == (0, "g2")


def test_nothing_is_planned_when_every_slot_is_taken() -> None:
    made = fleet(one="shell")
    made.take(Held("x", 1, "one", 1, 0.0))
    waiting = window((SHELL, 0, "a"))

    assert planned(waiting, made) == []
    assert len(waiting.classes[SHELL]) == 1


def test_no_agent_gets_more_than_its_slots() -> None:
    waiting = window(*((SHELL, 2, f"{n:02}") for n in range(20)))
    made = planned(waiting, fleet(slots=3, one="shell", two="shell"))

    assert Counter(name for _, name in who(made)) == {"one": 3, "two": 3}
    assert len(waiting.classes[SHELL]) == 14


def test_equal_agents_get_equal_shares() -> None:
    waiting = window(*((SHELL, 2, f"{n:02}") for n in range(20)))
    made = fleet(a="shell", b="shell", c="shell", d="shell")
    given = Counter[str]()
    chance = random.Random(7)
    while assignments := planned(waiting, made):
        for assignment in assignments:
            given[assignment.agent.name] += 1
        held = list(made.held.values())
        for attempt in chance.sample(held, chance.randint(1, len(held))):  # work takes as long as it takes
            made.release(attempt.task, attempt.epoch)

    assert sum(given.values()) == 20
    assert all(abs(count - 5) <= 2 for count in given.values()), given


def test_of_those_that_can_the_one_with_the_most_free_room_gets_it() -> None:
    made = fleet(big="shell", small="shell")
    made.agents["big"].slots = 4
    for task in "tu":
        made.take(Held(task, 1, "big", 1, 0.0))
    made.agents["small"].slots = 3
    made.take(Held("v", 1, "small", 1, 0.0))

    assert who(planned(window((SHELL, 0, "x")), made)) == [("x", "small")]


def test_among_equals_the_one_that_has_waited_longest_gets_it() -> None:
    made = fleet(a="shell", b="shell")
    for task, name in (("t", "a"), ("u", "b")):
        made.take(Held(task, 1, name, 1, 0.0))
    made.release("u", 1)
    made.release("t", 1)

    assert who(planned(window((SHELL, 0, "x")), made)) == [("x", "a")]


def test_nobody_is_chosen_when_all_are_busy() -> None:
    made = fleet(a="shell")
    waiting = window((SHELL, 0, "x"))
    found = Matcher(made).match(waiting.classes[SHELL].requirements)
    made.take(Held("t", 1, "a", 1, 0.0))

    assert choose(found, made) is None


def test_a_suspect_runs_alone_or_not_at_all() -> None:
    made = fleet(slots=3, busy="shell", empty="shell")
    made.take(Held("t", 1, "busy", 1, 0.0))
    plans = planned(window((ALONE, 2, "killer"), (SHELL, 2, "x"), (SHELL, 2, "y"), (SHELL, 2, "z")), made)

    assert ("killer", "empty") in who(plans)
    assert [name for task, name in who(plans) if task != "killer"] == ["busy", "busy"]


def test_an_agent_is_emptied_for_a_suspect_whose_turn_it_is_and_by_nothing_urgent_held_up() -> None:
    made = fleet(slots=3, a="shell", b="shell")
    for task, name in (("t", "a"), ("u", "a"), ("v", "b")):
        made.take(Held(task, 1, name, 1, 0.0))
    waiting = window((ALONE, 2, "a-suspect"), (SHELL, 0, "urgent"), *((SHELL, 2, f"x{n}") for n in range(9)))
    first = who(planned(waiting, made))
    assert first == [("urgent", "b"), ("x0", "b")]  # nothing for a, though it has room

    for task in ("v", "urgent", "x0"):
        made.release(task, 1)
    assert who(planned(waiting, made))[0] == ("a-suspect", "b")


def test_only_one_agent_at_a_time_is_kept_for_suspects() -> None:
    made = fleet(slots=2, a="shell", b="shell")
    made.take(Held("t", 1, "a", 1, 0.0))
    waiting = window((ALONE, 2, "0"), (ALONE, 2, "1"), (SHELL, 2, "x"), (SHELL, 2, "y"))

    assert who(planned(waiting, made)) == [("0", "b"), ("x", "a")]


def test_a_task_that_an_agent_holds_already_is_given_to_nobody_else() -> None:
    # A refill and whoever made it ready can both have told of it, the second after the first was taken.
    made = fleet(a="shell", b="shell")
    made.take(Held("x", 0, "a", 1, 0.0))
    waiting = window((SHELL, 0, "x"), (SHELL, 0, "y"))

    assert who(planned(waiting, made)) == [("y", "b")]
    assert made.held["x"].agent == "a"


def test_an_assignment_says_how_it_is_done_and_why() -> None:
    (made,) = planned(window((SHELL, 0, "x")), fleet(a="shell"))

    assert (made.way.agent, made.way.strategy.value) == ("a", "trivial")
    assert made.match.reason == "shell work needs no model: trivial, zero tokens"

"""The promises of the plan: urgent before old before new over all classes, fair to agents, no class in the way."""

import random
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.agent import Held
from hub.core.fleet import Fleet
from hub.core.matching import Matcher
from hub.core.prefixes import BLOCK_TOKENS
from hub.core.routing import Requirements, Way, class_after
from hub.core.scheduling import MAX_HANDICAP_S, Assignment, decisions, plan
from hub.core.shares import Shares
from hub.core.speeds import REUSE, Speeds
from hub.core.window import Window
from protocol.ids import encode
from protocol.limits import ALONE_FROM_DEATHS
from protocol.model import AgentState, Residency, Strategy
from tests.support.machines import add, model

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


def test_a_task_that_waits_twice_is_given_away_once_and_its_slot_stays_free() -> None:
    waiting, free = (
        window((SHELL, 1, "t"), (SHELL, 2, "s"), (SHELL, 2, "t"), (SHELL, 2, "u")),
        fleet(3, a="shell", b="shell"),
    )
    free.take(Held("s", 1, "a", 1, 0.0))

    assert sorted(task for task, _ in who(planned(waiting, free))) == ["t", "u"]
    later = window(*((SHELL, 1, f"n{number}") for number in range(9)))
    line = Matcher(free)
    for assignment in plan(later, free, line):
        free.take(Held(assignment.place[1], 1, assignment.agent.name, 1, 0.0))
    assert [len(agent.held) for agent in free.agents.values()] == [3, 3]


def test_slots_that_tasks_were_counted_on_for_are_given_by_the_next_plan() -> None:
    free = fleet(2, a="shell", b="shell")
    free.take(Held("s", 1, "a", 1, 0.0))
    matcher, given = Matcher(free), list[tuple[str, str]]()
    for tasks in (("s", "t"), ("u", "v", "w")):
        for assignment in plan(window(*((SHELL, 1, task) for task in tasks)), free, matcher):
            free.take(Held(assignment.place[1], 1, assignment.agent.name, 1, 0.0))
            given.append((assignment.place[1], assignment.agent.name))

    assert given == [("t", "b"), ("u", "a"), ("v", "b")]


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


@given(st.lists(st.integers(0, 2), max_size=30), st.integers(1, 20))
def test_a_class_that_waits_alone_goes_as_it_goes_beside_others(lanes: list[int], slots: int) -> None:
    named = [(NOOP, lane, f"{number:03}") for number, lane in enumerate(lanes)]
    agents = {"one": "noop shell", "two": "noop shell"}
    passes, made = [], []
    for beside in ((), ((SHELL, 3, "999"),)):
        shares, free = Shares(), fleet(slots, **agents)
        free.held["001"] = Held("001", 1, "one", 1, 0.0)  # it has come into the window twice
        for chosen in plan(window(*named, *beside), free, Matcher(free), shares=shares):
            free.take(Held(chosen.place[1], 1, chosen.agent.name, 1, 0.0))
            made.append((bool(beside), chosen.place, chosen.agent.name))
        passes.append([shares.of(lane, "") for lane in range(3)])

    assert [each[1:] for each in made if not each[0]] == [each[1:] for each in made if each[0] and each[1][0] < 3]
    assert passes[0] == passes[1]


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


def test_a_suspect_runs_alone_or_not_at_all() -> None:
    made = fleet(slots=3, busy="shell", empty="shell")
    made.take(Held("t", 1, "busy", 1, 0.0))
    plans = planned(window((ALONE, 2, "killer"), (SHELL, 2, "x"), (SHELL, 2, "y"), (SHELL, 2, "z")), made)

    assert ("killer", "empty") in who(plans)
    assert [name for task, name in who(plans) if task != "killer"] == ["busy", "busy"]


def test_suspects_that_wait_alone_get_an_agent_each() -> None:
    made = fleet(slots=3, one="shell", two="shell")
    plans = planned(window(*((ALONE, 2, name) for name in "xyz")), made)

    assert sorted(agent for _, agent in who(plans)) == ["one", "two"]


def test_a_class_that_waits_alone_asks_the_budgets_too() -> None:
    waiting, free = window((SHELL, 0, "x"), (SHELL, 0, "y")), fleet(slots=2, a="shell")
    asked: list[str] = []

    def may_spend(_requirements: Requirements, _way: Way, task: str) -> bool:
        asked.append(task)
        return task == "y"

    made = []
    for chosen in decisions(waiting, free, Matcher(free), may_spend=may_spend):
        assert isinstance(chosen, Assignment)
        free.take(Held(chosen.place[1], 1, chosen.agent.name, 1, 0.0))
        made.append(chosen.place[1])

    assert "x" in asked
    assert "x" not in made


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


# --- work for models ------------------------------------------------------------------------------------------------

CHAT = Requirements(executor="chat", strategies=(Strategy.LOCAL_LLM,), model="m").text
OTHER = Requirements(executor="chat", strategies=(Strategy.LOCAL_LLM,), model="x").text
WORK_S = 3.0  # of a task that reads 1,000 and writes 100 tokens on the machines of tests.support.machines


def learned(*classes: str) -> Speeds:
    speeds = Speeds()
    for text in classes or (CHAT, OTHER):
        speeds.used(text, 1_000, 100)
    return speeds


def begun(window: Window, fleet: Fleet, speeds: Speeds, now: float = 0.0) -> list[Assignment]:
    made = []
    for assignment in plan(window, fleet, Matcher(fleet), speeds, now):
        weighed = assignment.weighed
        assert weighed is not None
        held = Held(assignment.place[1], 1, assignment.agent.name, 1, 0.0)
        held.server, held.model = (assignment.agent.name, "ollama"), assignment.way.model
        held.ends_at = now + weighed.terms.service_s
        fleet.take(held)
        made.append(assignment)
    return made


def task(number: int, second: float = 0.0) -> str:
    return encode((int(1_700_000_000_000 + second * 1000) << 80) | number)


@pytest.mark.parametrize("rest_s, taken_by", [(3.0, []), (4.0, ["cold"])])
def test_a_warm_busy_server_against_a_cold_idle_one_is_decided_by_arithmetic(
    rest_s: float, taken_by: list[str]
) -> None:
    """The load takes 4 s and a second of waiting counts for 1.3: they cross at a wait of 3.08 s."""
    made = Fleet()
    add(made, "warm", model("m", 4.0, Residency.WARM))
    add(made, "cold", model("m", 4.0))
    held = Held("before", 1, "warm", 1, 0.0)
    held.server, held.model, held.ends_at = ("warm", "ollama"), "m", rest_s
    made.take(held)

    found = begun(window((CHAT, 2, task(1))), made, learned())
    assert [each.agent.name for each in found] == taken_by


def test_what_comes_after_one_that_waits_for_the_warm_server_goes_to_the_cold_one() -> None:
    made = Fleet()
    add(made, "warm", model("m", 4.0, Residency.WARM))
    add(made, "cold", model("m", 4.0))
    waiting = window(*((CHAT, 2, task(number)) for number in range(1, 4)))

    found = begun(waiting, made, learned())
    assert who(found) == [(task(1), "warm"), (task(2), "cold")]


def test_equal_warm_servers_get_equal_shares() -> None:
    made = Fleet()
    for name in ("a", "b", "c", "d"):
        add(made, name, model("m", 4.0, Residency.WARM))
    shares: Counter[str] = Counter()
    speeds, now = learned(), 0.0
    for number in range(1_000):
        (assignment,) = begun(window((CHAT, 2, task(number))), made, speeds, now)
        shares[assignment.agent.name] += 1
        now += WORK_S / 3
        for held in [held for held in made.held.values() if held.ends_at is not None and held.ends_at <= now]:
            made.release(held.task, held.epoch)

    assert all(225 <= share <= 275 for share in shares.values()), shares


def test_of_two_that_have_the_model_the_faster_one_gets_more() -> None:
    made = Fleet()
    add(made, "slow", model("m", 4.0, Residency.WARM))
    add(made, "fast", msgspec.structs.replace(model("m", 4.0, Residency.WARM), tokens_per_s=100.0))
    waiting = window(*((CHAT, 2, task(number)) for number in range(300)))
    shares: Counter[str] = Counter()
    speeds, now = learned(), 0.0
    while waiting.classes[CHAT].head is not None:
        shares.update(each.agent.name for each in begun(waiting, made, speeds, now))
        now += 0.25
        for held in [held for held in made.held.values() if held.ends_at is not None and held.ends_at <= now]:
            made.release(held.task, held.epoch)

    assert 1.6 <= shares["fast"] / shares["slow"] <= 2.4, shares


def knowing(name: str, *tasks: str) -> Fleet:
    """Two warm servers; ``name`` has read what these tasks begin with, which takes a second to read."""
    made = Fleet()
    for agent in ("a", "b"):
        add(made, agent, model("m", 4.0, Residency.WARM))
    for each in ("before", *tasks):
        made.prefixes.expect(each, tuple(range(round(1_000 / REUSE / BLOCK_TOKENS))))
    made.prefixes.read("before", (name, "ollama"), "m", 1, is_loaded=False)
    return made


@pytest.mark.parametrize("rest_s, taken_by", [(0.65, []), (0.75, ["a"])])
def test_a_busy_server_that_knows_the_prompt_against_an_idle_one_is_decided_by_arithmetic(
    rest_s: float, taken_by: list[str]
) -> None:
    """Of a second of reading nine tenths are saved, and a second of waiting counts for 1.3: they cross at 0.69 s."""
    made = knowing("b", task(1))
    held = Held("before", 1, "b", 1, 0.0)
    held.server, held.model, held.ends_at = ("b", "ollama"), "m", rest_s
    made.take(held)

    found = begun(window((CHAT, 2, task(1))), made, learned())
    assert [each.agent.name for each in found] == taken_by


def test_a_task_goes_where_its_prompt_is_known_and_nobody_takes_its_place_who_belongs_elsewhere() -> None:
    made = knowing("b", task(1), task(3))
    held = Held("before", 1, "b", 1, 0.0)
    held.server, held.model, held.ends_at = ("b", "ollama"), "m", 0.5
    made.take(held)
    waiting = window((CHAT, 2, task(1)), (CHAT, 2, task(2)))

    found = begun(waiting, made, learned())
    assert who(found) == [(task(2), "a")]
    assert waiting.classes[CHAT].head == (2, task(1)), "it waits for b, which has read its beginning"
    made.release("before", 1)
    assert who(begun(waiting, made, learned())) == [(task(1), "b")]


def test_tasks_of_the_model_in_memory_go_before_a_slightly_older_one_of_another() -> None:
    made = Fleet()
    add(made, "only", model("m", 10.0, Residency.WARM), model("x", 20.0))
    waiting = window((OTHER, 2, task(1, 0)), (CHAT, 2, task(2, 5)))

    assert who(begun(waiting, made, learned())) == [(task(2, 5), "only")]


def test_nobody_is_overtaken_for_ever_for_the_sake_of_a_load() -> None:
    made = Fleet()
    add(made, "only", model("m", 10.0, Residency.WARM), model("x", 20.0))
    waiting = window((OTHER, 2, task(1, 0)), (CHAT, 2, task(2, MAX_HANDICAP_S + 1)))

    assert who(begun(waiting, made, learned())) == [(task(1, 0), "only")]


def test_a_more_urgent_task_goes_first_whatever_it_has_to_load() -> None:
    made = Fleet()
    add(made, "only", model("m", 10.0, Residency.WARM), model("x", 20.0))
    waiting = window((CHAT, 2, task(1, 0)), (OTHER, 1, task(2, 5)))

    assert who(begun(waiting, made, learned())) == [(task(2, 5), "only")]


def test_a_model_that_fits_nowhere_holds_up_no_other() -> None:
    made = Fleet()
    add(made, "only", model("m", 10.0, Residency.WARM), model("x", 40.0))
    waiting = window((OTHER, 0, task(1)), (CHAT, 3, task(2)))

    assert who(begun(waiting, made, learned())) == [(task(2), "only")]
    assert len(waiting.classes[OTHER]) == 1


def test_the_same_snapshot_gives_the_same_plan() -> None:
    def once() -> list[tuple[str, str]]:
        made = Fleet()
        for name in ("a", "b", "c"):
            add(made, name, model("m", 4.0), model("x", 12.0, Residency.WARM), model("y", 12.0))
        classes = (CHAT, OTHER)
        return who(begun(window(*((classes[n % 2], 2, task(n, n)) for n in range(20))), made, learned()))

    assert once() == once()

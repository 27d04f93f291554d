"""The promises of a line: its head is who a look at everybody would choose, whatever has happened since it was made."""

import random

from hypothesis import given
from hypothesis import strategies as st

from hub.core import fleet as fleet_module
from hub.core.agent import Agent, Held
from hub.core.fleet import Fleet
from hub.core.lines import Line
from hub.core.matching import Matcher, match
from hub.core.routing import requirements_of
from protocol.model import AgentState

SHELL = requirements_of('{"executor":"shell","strategies":["trivial"]}')


def crowd(count: int, *, slots: int = 1) -> Fleet:
    made = Fleet()
    for number in range(count):
        agent = made.agent(f"a{number}")
        agent.state, agent.slots = AgentState.IDLE, slots
        agent.capabilities = frozenset({"executor:shell"})
    return made


def rank(agent: Agent) -> tuple[float, int]:
    return len(agent.held) / agent.slots, agent.last_given


def chosen(fleet: Fleet, *, emptying: frozenset[str] = frozenset(), alone: bool = False) -> set[str | None]:
    """Whom a look at everybody finds: several, if none of them was ever given anything."""
    able = [fleet.agents[way.agent] for way in match(fleet, SHELL).ways]
    free = [a for a in able if a.free_slots and a.name not in emptying and not (alone and a.held)]
    best = min(map(rank, free), default=None)
    return {agent.name for agent in free if rank(agent) == best} or {None}


def head(matcher: Matcher, *, emptying: frozenset[str] = frozenset(), alone: bool = False) -> str | None:
    first = matcher.line(SHELL).first(emptying, alone=alone)
    return first and first[0].name


def act(fleet: Fleet, agent: Agent, what: str, number: int, chance: random.Random) -> None:
    """Something that happens to agents."""
    if what == "take" and agent.free_slots:
        fleet.take(Held(f"t{number}", 1, agent.name, 1, 0.0, alone=chance.random() < 0.1))
    elif what == "release" and fleet.held:
        fleet.release(chance.choice(sorted(fleet.held)), 1)
    elif what == "leave":
        agent.is_leaving = not agent.is_leaving
        fleet.changed(agent)
    elif what == "behind":
        agent.is_behind = not agent.is_behind
        fleet.freed(agent)
    elif what == "away" and not agent.held:
        agent.state = AgentState.IDLE if agent.state is AgentState.OFFLINE else AgentState.OFFLINE
        fleet.changed(agent)
    elif what == "all":
        fleet.changed()
    elif what == "forget" and not agent.held:
        fleet.forget(agent.name)


def test_nobody_is_chosen_when_all_are_busy() -> None:
    made = crowd(1)
    line = Line(match(made, SHELL).ways, made)
    made.take(Held("t", 1, "a0", 1, 0.0))
    assert line.first() is None

    made.release("t", 1)
    assert line.first() is not None


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5), st.booleans()), min_size=1, max_size=12),
    st.integers(1, 40),
    st.booleans(),
)
def test_the_head_of_the_line_is_who_a_look_at_everybody_would_choose(
    agents: list[tuple[int, int, bool]], tasks: int, alone: bool
) -> None:
    made = crowd(len(agents))
    for n, (slots, busy, leaves) in enumerate(agents):
        agent = made.agents[f"a{n}"]
        agent.slots, agent.is_leaving = slots, leaves
        for number in range(min(busy, slots)):
            made.take(Held(f"{n}-{number}", 1, agent.name, 1, 0.0))
    matcher = Matcher(made)

    for number in range(tasks):
        best = head(matcher, alone=alone)
        assert best in chosen(made, alone=alone)
        if best is not None:
            made.take(Held(f"t{number}", 1, best, 1, 0.0, alone=alone and number % 2 == 0))


WHAT_IS_FREED = ["release", "behind", "take"]
WHAT = st.sampled_from(["take", "take", "take", "release", "release", "leave", "behind", "away", "all", "forget"])


@given(st.lists(WHAT, max_size=60), st.integers(0, 2**32), st.booleans(), st.booleans())
def test_a_line_that_stands_forgets_nobody(what: list[str], seed: int, alone: bool, empties: bool) -> None:
    chance = random.Random(seed)
    made = crowd(5, slots=2)
    matcher = Matcher(made)
    emptying = frozenset({"a1"} if empties else ())

    for number, happens in enumerate(what):
        names = sorted(made.agents) or [made.agent(f"new{number}").name]
        act(made, made.agents[chance.choice(names)], happens, number, chance)
        assert head(matcher, emptying=emptying, alone=alone) in chosen(made, emptying=emptying, alone=alone)
        assert made.has_free_slot is any(agent.free_slots for agent in made.agents.values())
        assert set(matcher.match(SHELL).ways) == set(match(made, SHELL).ways)
        known, fresh = matcher.match(SHELL).candidates, match(made, SHELL).candidates
        assert sorted(known, key=lambda each: each.agent) == sorted(fresh, key=lambda each: each.agent)


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5), st.booleans()), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from(WHAT_IS_FREED)), max_size=6),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_several_at_once_are_those_who_would_be_chosen_one_by_one(
    agents: list[tuple[int, int, bool]], steps: list[tuple[int, str]], empties: bool, seed: int
) -> None:
    fleets, chances = (crowd(len(agents)), crowd(len(agents))), (random.Random(seed), random.Random(seed))
    emptying = frozenset({"a1"} if empties else ())
    for made in fleets:
        for n, (slots, busy, leaves) in enumerate(agents):
            made.agents[f"a{n}"].slots, made.agents[f"a{n}"].is_leaving = slots, leaves
            for number in range(min(busy, slots)):
                made.take(Held(f"{n}-{number}", 1, f"a{n}", 1, 0.0))
    lines = [Line(match(made, SHELL).ways, made) for made in fleets]

    for step, (count, happens) in enumerate(steps):
        together = [agent.name for agent, _ in lines[0].several(count, emptying)]
        for number, name in enumerate(together):
            fleets[0].take(Held(f"{step}.{number}", 1, name, 1, 0.0))
        alone = []
        while len(alone) < count and (first := lines[1].first(emptying)) is not None:
            fleets[1].take(Held(f"{step}.{len(alone)}", 1, first[0].name, 1, 0.0))
            alone.append(first[0].name)
        assert together == alone
        for made, chance in zip(fleets, chances, strict=True):
            act(made, made.agents[chance.choice(sorted(made.agents))], happens, step, chance)


def test_a_line_that_has_not_looked_for_long_looks_at_everybody() -> None:
    made = crowd(3)
    matcher = Matcher(made)
    for name in ("a0", "a1", "a2"):
        made.take(Held(name, 1, name, 1, 0.0))
    assert head(matcher) is None
    made.release("a1", 1)
    for _ in range(fleet_module.MAX_NOTES + 1):
        made.freed(made.agents["a2"])

    assert made.freed_since(0) is None
    assert head(matcher) == "a1"


def test_a_line_does_not_grow_with_the_tasks_that_pass() -> None:
    made = crowd(3, slots=4)
    line = Line(match(made, SHELL).ways, made)
    for number in range(1_000):
        first = line.first()
        assert first is not None
        made.take(Held(f"t{number}", 1, first[0].name, 1, 0.0))
        if number % 4 == 3:
            for task in sorted(made.held)[:4]:
                made.release(task, 1)

    assert len(line._heap) < 100

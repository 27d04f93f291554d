"""Grouping by model saves loads and starves nobody: whatever comes, and in whichever order, has its turn in time."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.core.agent import Held
from hub.core.fleet import Fleet
from hub.core.matching import Matcher
from hub.core.routing import Requirements
from hub.core.scheduling import MAX_HANDICAP_S, Assignment, plan
from hub.core.speeds import Speeds
from hub.core.window import Window
from protocol.ids import encode
from protocol.model import ModelReport, Residency, Strategy
from tests.support.machines import add, model

MODELS = ("a", "b", "c")
SIZE_GB = 14.0  # one at a time in 24 GB
AT_MS = 1_700_000_000_000

Came = tuple[float, str]
"""When a task came, in seconds, and for which model."""


class World:
    """One machine with one server, in virtual time."""

    def __init__(self, came: Sequence[Came], parallel: int) -> None:
        self.fleet, self.window, self.speeds = Fleet(), Window(), Speeds()
        add(self.fleet, "only", *(model(name, SIZE_GB) for name in MODELS), parallel=parallel)
        self.matcher, self.now = Matcher(self.fleet), 0.0
        self.came = {encode((AT_MS + int(at * 1000) << 80) | n): (at, name) for n, (at, name) in enumerate(came)}
        self.began: list[str] = []
        for name in MODELS:
            self.speeds.used(asked(name).kind, 2_000, 1_000)

    def run(self) -> None:
        waiting = list(self.came)
        while waiting or self.fleet.held:
            soonest = [self.came[task][0] for task in waiting[:1]]
            self.now = min([*soonest, *(held.ends_at or 0.0 for held in self.fleet.held.values())])
            for held in [held for held in self.fleet.held.values() if (held.ends_at or 0.0) <= self.now]:
                self.fleet.release(held.task, held.epoch)
            while waiting and self.came[waiting[0]][0] <= self.now:
                task = waiting.pop(0)
                self.window.add(asked(self.came[task][1]).text, (2, task))
            for assignment in plan(self.window, self.fleet, self.matcher, self.speeds, self.now):
                self._begin(assignment)

    def _begin(self, assignment: Assignment) -> None:
        weighed, task = assignment.weighed, assignment.place[1]
        assert weighed is not None
        held = Held(task, 1, "only", 1, 0.0, server=("only", "ollama"), model=weighed.way.model)
        held.service_s, held.ends_at = weighed.terms.service_s, self.now + weighed.terms.service_s
        self.fleet.take(held)
        self.began.append(task)
        agent = self.fleet.agents["only"]
        (server,) = agent.endpoints
        models = tuple(self._loaded(each.name, weighed.way.model, weighed.evicted) for each in server.models)
        agent.endpoints = (replace(server, models=models),)
        self.fleet.changed()

    def _loaded(self, name: str, used: str, evicted: Sequence[str]) -> ModelReport:
        was = next(each for each in self.fleet.agents["only"].endpoints[0].models if each.name == name)
        residency = Residency.WARM if name == used else Residency.COLD if name in evicted else was.residency
        return replace(was, residency=residency)


def asked(name: str) -> Requirements:
    return Requirements(executor="chat", strategies=(Strategy.LOCAL_LLM,), model=name)


def arrivals() -> st.SearchStrategy[list[Came]]:
    # More than one server can do, mostly for one model: that is where grouping would starve the others.
    gaps = st.lists(st.tuples(st.floats(0.0, 25.0), st.sampled_from("aaaaaabc")), min_size=40, max_size=80)
    return gaps.map(_added_up)


def _added_up(gaps: list[tuple[float, str]]) -> list[Came]:
    at, came = 0.0, []
    for gap, name in gaps:
        at += gap
        came.append((at, name))
    return came


def overtaken(world: World) -> list[tuple[str, str]]:
    """Tasks that began although one that came too long before them had not."""
    return [
        (later, earlier)
        for number, later in enumerate(world.began)
        for earlier in world.began[number + 1 :]
        if world.came[later][0] > world.came[earlier][0] + MAX_HANDICAP_S
    ]


@settings(max_examples=50, deadline=None)
@given(came=arrivals(), parallel=st.integers(1, 3))
def test_whatever_comes_every_task_begins_and_none_is_overtaken_by_one_that_came_too_late(
    came: list[Came], parallel: int
) -> None:
    world = World(came, parallel)
    world.run()

    assert sorted(world.began) == sorted(world.came)
    assert overtaken(world) == []


def test_an_endless_stream_for_the_model_in_memory_does_not_keep_another_one_out() -> None:
    stream = [(20.0 * n, "a") for n in range(100)]
    world = World(sorted([*stream, (50.0, "b")]), 1)
    world.run()

    (wanted,) = (task for task, (_, name) in world.came.items() if name == "b")
    before = [task for task in world.began[: world.began.index(wanted)] if world.came[task][0] > 50.0]
    assert before, "it was grouped: nobody loads a model for one task while another one is wanted"
    assert max(world.came[task][0] for task in before) <= 50.0 + MAX_HANDICAP_S

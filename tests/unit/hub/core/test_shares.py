"""Fair shares: nobody starves, nobody saves up, and what a task takes counts."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.core.agent import Held
from hub.core.fleet import Fleet
from hub.core.matching import Matcher
from hub.core.routing import Requirements
from hub.core.scheduling import plan
from hub.core.shares import LEAST_S, MAX_KEPT, Shares
from hub.core.speeds import Speeds
from hub.core.window import Window
from protocol.model import AgentState, Strategy

LANE = 2


def text(by: str, executor: str = "shell") -> str:
    return Requirements(executor=executor, strategies=(Strategy.TRIVIAL,), by=by).text


class Hub:
    """A window, one agent with one slot, and what has been given away."""

    def __init__(self, slots: int = 1) -> None:
        self.window, self.fleet, self.shares, self.speeds = Window(1_000), Fleet(), Shares(), Speeds()
        agent = self.fleet.agent("a")
        agent.state, agent.slots = AgentState.IDLE, slots
        agent.capabilities = frozenset({"executor:shell", "executor:noop"})
        self.matcher = Matcher(self.fleet)
        self.number = 0

    def submit(self, by: str, count: int, lane: int = LANE, executor: str = "shell") -> None:
        for _ in range(count):
            self.number += 1
            self.window.add(text(by, executor), (lane, f"{self.number:06}"))

    def given(self, most: int) -> list[str]:
        """Who was served, in order, with every slot freed again as soon as it is taken."""
        served: list[str] = []
        while len(served) < most:
            before = len(served)
            for one in plan(self.window, self.fleet, self.matcher, self.speeds, shares=self.shares):
                self.fleet.take(Held(one.place[1], 1, one.agent.name, 1, 0.0))
                served.append(one.queue.requirements.by)
            for held in list(self.fleet.held.values()):
                self.fleet.release(held.task, held.epoch)
            if len(served) == before:
                break
        return served[:most]


def test_ten_tasks_do_not_wait_behind_ten_thousand() -> None:
    hub = Hub()
    hub.submit("many", 10_000)
    hub.submit("few", 10)

    assert Counter(hub.given(20)) == {"many": 10, "few": 10}


def test_who_comes_late_gets_an_even_share_and_no_more() -> None:
    hub = Hub()
    hub.submit("early", 200)
    assert set(hub.given(50)) == {"early"}
    hub.submit("late", 200)

    assert Counter(hub.given(40)) == {"early": 20, "late": 20}


def test_urgent_work_overtakes_whoever_has_had_the_least() -> None:
    hub = Hub()
    hub.submit("one", 5)
    hub.submit("two", 5, lane=0)

    assert hub.given(6) == ["two"] * 5 + ["one"]


def test_several_classes_of_one_submitter_are_one_share() -> None:
    hub = Hub()
    for executor in ("shell", "noop"):
        hub.submit("both", 100, executor=executor)
    hub.submit("one", 100)

    assert Counter(hub.given(60)) == {"both": 30, "one": 30}


def test_who_has_long_tasks_gets_as_much_time_not_as_many_tasks() -> None:
    hub = Hub()
    hub.submit("long", 100, executor="noop")
    hub.submit("short", 100)
    for executor, seconds in (("noop", 30.0), ("shell", 10.0)):
        hub.speeds.lasted(text("", executor), seconds)

    assert Counter(hub.given(40)) == {"long": 10, "short": 30}


@settings(deadline=None)  # its largest examples take 60 ms, on a machine that has nothing else to do
@given(
    st.lists(st.integers(1, 60), min_size=2, max_size=6),
    st.integers(1, 7),
    st.lists(st.floats(0.1, 50.0), min_size=6, max_size=6),
)
def test_while_two_wait_neither_is_ahead_by_more_than_a_task_each(
    counts: list[int], slots: int, lengths: list[float]
) -> None:
    hub = Hub(slots)
    seconds = {f"s{n}": lengths[n] for n in range(len(counts))}
    shares = Shares()
    waiting = {name: counts[n] for n, name in enumerate(seconds)}
    had = dict.fromkeys(seconds, 0.0)
    for n, name in enumerate(seconds):
        hub.submit(name, counts[n])
    for name in hub.given(sum(counts)):
        waiting[name] -= 1
    assert not any(waiting.values())  # everything was served

    for _ in range(200):
        name = min(seconds, key=lambda each: (shares.of(LANE, each), each))
        shares.took(LANE, name, seconds[name])
        had[name] += seconds[name]
    assert max(had.values()) - min(had.values()) <= 2 * max(lengths) + 1e-6


def test_a_task_that_takes_no_time_counts_a_little() -> None:
    shares = Shares()

    assert shares.took(LANE, "a", 0.0) == pytest.approx(LEAST_S)


def test_only_so_many_are_remembered_and_those_who_are_ahead() -> None:
    shares = Shares()
    shares.took(LANE, "heavy", 1e6)
    for number in range(MAX_KEPT + 10):
        shares.took(LANE, f"s{number}", 1.0)

    assert shares.of(LANE, "heavy") == pytest.approx(1e6)
    assert shares.of(LANE, "s0") == 0.0

"""Promises of :mod:`agentcom.rollout`: one goes first, a few at a time, and none after the first that fails."""

from typing import Any

import pytest

from agentcom.rollout import Rollout, planned
from protocol.api import AgentView
from protocol.errors import Conflict, HubUnreachable, NotFound
from protocol.joining import UPGRADE
from protocol.model import AgentState

OLD, NEW = "0.1.0", "0.2.0"


def agent(name: str, **facts: Any) -> AgentView:
    usual: dict[str, Any] = {
        "name": name,
        "state": AgentState.IDLE,
        "host": "h",
        "slots": 1,
        "busy": 0,
        "capabilities": (UPGRADE,),
        "version": OLD,
        "boot_epoch": 1,
        "last_seen_at": None,
        "tasks": (),
        "draining": False,
    }
    return AgentView(**usual | facts)


class Fleet:
    """A hub whose machines are done a second after they were asked, or fail as they are told to."""

    def __init__(self, *agents: AgentView, fails: dict[str, str] | None = None) -> None:
        self.agents = {each.name: each for each in agents}
        self.fails, self.now_s, self.facts, self.told = fails or {}, 0.0, list[str](), list[tuple[str, str]]()
        self.ends = False

    def agent(self, name: str) -> AgentView:
        if self.fails.get(name) == "hub away" and self.facts and self.now_s < 5:
            raise HubUnreachable("http://hub", "down")
        if name not in self.agents:
            raise NotFound("agent", name)
        return self.agents[name]

    def upgrade_agent(self, name: str) -> AgentView:
        self.facts.append(f"upgrade {name}")
        if self.fails.get(name) == "refused":
            raise Conflict("nobody upgrades it from here")
        self.agents[name] = agent(name, draining=True, upgrade="asked")
        return self.agents[name]

    def resume(self, name: str) -> AgentView:
        self.facts.append(f"resume {name}")
        self.agents[name].draining = False
        return self.agents[name]

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        if self.ends:
            raise KeyboardInterrupt
        for name in [name for name, how in self.fails.items() if how == "removed" and f"upgrade {name}" in self.facts]:
            self.agents.pop(name, None)
        for name, each in self.agents.items():
            if each.upgrade:
                how = self.fails.get(name, "")
                each.upgrade_failed = how if how not in {"slow", "hub away"} else ""
                each.upgrade = "build" if how == "slow" else ""
                each.version = OLD if how and how != "hub away" else NEW

    def roll(self, batch: int = 2) -> bool:
        rollout = Rollout(self, NEW, 60.0, self.tell, now=self.now, wait=self.wait)
        return rollout.run(planned([*self.agents.values()], NEW, batch).waves)

    def tell(self, outcome: str, name: str, said: str) -> None:
        assert said
        self.told.append((outcome, name))

    def now(self) -> float:
        return self.now_s


def test_one_goes_first_and_the_others_some_at_a_time() -> None:
    plan = planned([agent(name) for name in "ecadb"], NEW, 2)

    assert plan.waves == (("a",), ("b", "c"), ("d", "e"))
    assert planned([], NEW, 2).waves == planned([agent("a", version=NEW)], NEW, 2).waves == ()


def test_who_cannot_be_reached_from_the_hub_is_left_out_with_what_to_do() -> None:
    away, other = agent("away", state=AgentState.OFFLINE), agent("pip", capabilities=())
    plan = planned([away, other, agent("a"), agent("b")], NEW, 5, ("away", "pip", "b"))

    assert plan.waves == (("b",),)
    assert set(plan.left_out) == {"away", "pip"}
    assert all("agentcom upgrade" in why for why in plan.left_out.values())


def test_all_get_the_release_and_work_again() -> None:
    fleet = Fleet(*map(agent, "abc"))

    assert fleet.roll()
    assert fleet.facts == ["upgrade a", "resume a", "upgrade b", "upgrade c", "resume b", "resume c"]
    assert {each.version for each in fleet.agents.values()} == {NEW}


@pytest.mark.parametrize("how", ["check: the new release is not well here", "slow", "refused"])
def test_after_the_first_that_fails_none_is_begun_and_it_works_on_with_what_it_has(how: str) -> None:
    fleet = Fleet(*map(agent, "abcde"), fails={"b": how})

    assert not fleet.roll()
    assert [fact for fact in fleet.facts if fact.startswith("upgrade")] == ["upgrade a", "upgrade b", "upgrade c"]
    assert sorted(fleet.told) == [("fail", "b"), ("ok", "a"), ("ok", "c")]
    assert not any(each.draining for each in fleet.agents.values())


def test_a_hub_that_is_away_for_a_moment_fails_nobody() -> None:
    fleet = Fleet(agent("a"), fails={"a": "hub away"})

    assert fleet.roll()


def test_who_was_out_of_service_before_stays_so() -> None:
    fleet = Fleet(agent("a", draining=True))

    assert fleet.roll()
    assert fleet.facts == ["upgrade a"]


def test_who_is_removed_meanwhile_has_not_failed_and_as_long_as_none_has_come_back_one_goes_alone() -> None:
    fleet = Fleet(*map(agent, "abcd"), fails={"a": "removed", "d": "removed"})

    assert fleet.roll()
    assert fleet.facts == ["upgrade a", "upgrade b", "resume b", "upgrade c", "resume c", "upgrade d"]
    assert fleet.told == [("left", "a"), ("ok", "b"), ("ok", "c"), ("left", "d")]


def test_who_was_removed_before_its_turn_is_told_and_no_failure() -> None:
    fleet = Fleet(agent("a"), agent("b"))
    del fleet.agents["a"]
    rollout = Rollout(fleet, NEW, 60.0, fleet.tell, now=fleet.now, wait=fleet.wait)

    assert rollout.run([["a"], ["b"]])
    assert fleet.told == [("left", "a"), ("ok", "b")]


def test_a_person_who_ends_it_leaves_nobody_out_of_service() -> None:
    fleet = Fleet(*map(agent, "abc"))
    fleet.ends = True
    with pytest.raises(KeyboardInterrupt):
        fleet.roll()

    assert fleet.facts == ["upgrade a", "resume a"]


class Machine(Fleet):
    """A hub with one machine, which tells step by step how it comes along, a second each."""

    def __init__(self, *steps: dict[str, Any]) -> None:
        super().__init__(agent("a"), agent("b"))
        self.steps = list(steps)

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        if self.steps:
            facts = self.steps.pop(0)
            self.agents["a"] = agent("a", draining=True, **facts)
            if "upgrade b" in self.facts:
                self.agents["b"] = agent("b", version=NEW)


OFFLINE = AgentState.OFFLINE


def test_a_release_that_is_seen_but_does_not_stay_up_stops_at_the_first() -> None:
    failed = "ready: the sidecar does not run"
    fleet = Machine(
        {"upgrade": "switch"},
        {"upgrade": "restart", "version": NEW},  # it is there, and its machine has not found it well
        {"upgrade": "restart", "state": OFFLINE, "version": NEW},
        {"upgrade": "restart", "version": NEW},
        {"upgrade_failed": failed, "version": NEW},
        {"upgrade_failed": failed, "state": OFFLINE, "version": NEW},
        {"upgrade_failed": failed},
    )

    assert not fleet.roll()
    assert (fleet.facts, fleet.now_s) == (["upgrade a", "resume a"], 7.0)
    assert fleet.told == [("fail", "a")]


@pytest.mark.parametrize(
    "last, seconds",
    [({"upgrade": "ready"}, 1.0), ({"upgrade": ""}, 1.0), ({"upgrade": "restart"}, 61.0)],
    ids=["the last word was lost", "the hub was restarted", "more words were lost"],
)
def test_a_machine_whose_words_were_lost_is_believed_by_what_it_runs(last: dict[str, Any], seconds: float) -> None:
    fleet = Machine({"version": NEW, **last}, *([{"version": NEW, **last}] * 80))

    assert fleet.roll(batch=1)
    assert fleet.told[0] == ("ok", "a")
    assert fleet.now_s >= seconds


def test_a_step_that_fails_once_the_release_is_up_is_a_failure_at_once() -> None:
    fleet = Machine({"upgrade_failed": "tidy: no space", "version": NEW})

    assert not fleet.roll()
    assert fleet.now_s == 1.0

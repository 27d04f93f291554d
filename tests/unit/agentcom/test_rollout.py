"""Promises of :mod:`agentcom.rollout`: one goes first, a few at a time, and none after the first that fails."""

from typing import Any

import pytest

from agentcom.rollout import Rollout, planned
from protocol.api import AgentView
from protocol.errors import Conflict, HubUnreachable
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

    def agent(self, name: str) -> AgentView:
        if self.fails.get(name) == "hub away" and self.facts and self.now_s < 5:
            raise HubUnreachable("http://hub", "down")
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

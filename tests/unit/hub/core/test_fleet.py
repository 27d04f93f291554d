"""The promises of the fleet: a slot is taken once and freed once, and only the attempt that holds it can free it."""

import pytest

from hub.core.agent import Held
from hub.core.fleet import MAX_REPOS, Fleet
from protocol.model import AgentState, AttemptState


def fleet(*states: AgentState) -> Fleet:
    """Agents a, b, ... in these states, two slots each."""
    made = Fleet()
    for name, state in zip("abcdef", states, strict=False):
        agent = made.agent(name)
        agent.state, agent.slots = state, 2
    return made


def held(task: str = "t", epoch: int = 1, agent: str = "a", until: float = 10.0) -> Held:
    return Held(task, epoch, agent, 1, until)


def test_an_agent_is_made_once() -> None:
    made = Fleet()

    assert made.agent("a") is made.agent("a")
    assert made.generation == 1


def test_only_connected_agents_are_online() -> None:
    made = fleet(AgentState.OFFLINE, AgentState.IDLE, AgentState.DRAINING)

    assert [agent.name for agent in made.online()] == ["b", "c"]


def test_a_taken_slot_is_used_until_it_is_released() -> None:
    made = fleet(AgentState.IDLE)
    made.take(held("t"))
    made.take(held("u"))

    assert not made.has_free_slot
    assert made.agents["a"].state is AgentState.ASSIGNED
    assert made.release("t", 1) is not None
    assert made.has_free_slot
    assert made.agents["a"].state is AgentState.ASSIGNED
    made.release("u", 1)
    assert made.agents["a"].state is AgentState.IDLE


@pytest.mark.parametrize("others", [0, 1])
def test_what_ends_in_the_breath_in_which_it_was_accepted_leaves_its_agent_as_if_it_had_begun_before(
    others: int,
) -> None:
    made = fleet(AgentState.IDLE)
    for number in range(others):
        made.take(held(f"o{number}"))
    attempt = held("t")
    made.take(attempt)

    assert made.end(attempt, begins=True) is made.agents["a"]
    assert made.agents["a"].state is (AgentState.WORKING if others else AgentState.IDLE)
    assert attempt.state is AttemptState.RUNNING
    assert "t" not in made.held


def test_no_agent_means_no_free_slot() -> None:
    assert not Fleet().has_free_slot


def test_assignments_are_numbered_so_that_the_longest_waiting_agent_is_known() -> None:
    made = fleet(AgentState.IDLE, AgentState.IDLE)
    made.take(held("t", agent="a"))
    made.take(held("u", agent="b"))

    assert (made.agents["a"].last_given, made.agents["b"].last_given) == (1, 2)


@pytest.mark.parametrize("state", [AgentState.OFFLINE, AgentState.DRAINING])
def test_an_agent_that_gets_nothing_new_keeps_its_state_with_what_a_restart_finds_it_holding(state: AgentState) -> None:
    made = fleet(state)
    made.take(held())

    assert made.agents["a"].state is state
    assert made.held == {"t": made.agents["a"].held["t"]}
    made.release("t", 1)
    assert made.agents["a"].state is state


def test_an_accepted_attempt_runs() -> None:
    made = fleet(AgentState.IDLE)
    attempt = held()
    made.take(attempt)
    made.start(attempt)

    assert attempt.state is AttemptState.RUNNING
    assert made.agents["a"].state is AgentState.WORKING
    made.start(attempt)
    assert made.agents["a"].state is AgentState.WORKING


def test_an_attempt_accepted_by_an_agent_that_is_gone_leaves_it_gone() -> None:
    made = fleet(AgentState.OFFLINE)
    attempt = held()
    made.take(attempt)
    made.start(attempt)

    assert attempt.state is AttemptState.RUNNING
    assert made.agents["a"].state is AgentState.OFFLINE


@pytest.mark.parametrize("task, epoch", [("t", 2), ("t", 0), ("u", 1)])
def test_only_the_attempt_that_holds_a_slot_frees_it(task: str, epoch: int) -> None:
    made = fleet(AgentState.IDLE)
    made.take(held("t", 1))

    assert made.release(task, epoch) is None
    assert set(made.held) == set(made.agents["a"].held) == {"t"}


def test_a_slot_is_freed_once() -> None:
    made = fleet(AgentState.IDLE)
    made.take(held())

    assert made.release("t", 1) is not None
    assert made.release("t", 1) is None
    assert made.agents["a"].free_slots == 2


def test_a_heartbeat_renews_what_it_names_and_learns_what_does_not_count() -> None:
    made = fleet(AgentState.IDLE, AgentState.IDLE)
    mine, silent, others = held("t", 3), held("u", 1), held("v", 1, agent="b")
    for attempt in (mine, silent, others):
        made.take(attempt)

    stale = made.renew(made.agents["a"], iter([("t", 3), ("u", 9), ("v", 1), ("w", 1)]), 99.0)

    assert stale == [("u", 9), ("v", 1), ("w", 1)]
    assert (mine.lease_until, silent.lease_until, others.lease_until) == (99.0, 10.0, 10.0)


def test_a_lease_ends_at_its_end_and_not_before() -> None:
    made = fleet(AgentState.IDLE)
    early, late = held("t", until=10.0), held("u", until=10.1)
    made.take(early)
    made.take(late)

    assert made.expired(9.9) == []
    assert made.expired(10.0) == [early]


def test_a_change_of_abilities_is_a_new_generation() -> None:
    made = fleet(AgentState.IDLE)
    before = made.generation
    made.changed()

    assert made.generation == before + 1


def test_a_host_is_remembered_with_its_newest_repositories_until_its_agent_is_forgotten() -> None:
    made = Fleet()
    made.agent("a").host = "h"
    for number in range(MAX_REPOS + 1):
        made.keep_repo("h", f"r{number}")

    assert (made.has_repo("h", "r0"), made.has_repo("h", "r1")) == (False, True)
    made.forget("a")
    assert not made.has_repo("h", "r1")

"""The promises of an agent: its states follow one table, and it takes no more than it has room for."""

import weakref

import pytest

from hub.core.agent import AGENT_EDGES, Agent, Held, same
from protocol.errors import IllegalTransition
from protocol.model import AgentState

TABLE = """
offline  join          idle
offline  join_busy     working
offline  join_draining draining
idle     claim         assigned
assigned claim         assigned
working  claim         working
assigned start         working
working  start         working
draining start         draining
assigned free          idle
working  free          idle
draining free          draining
idle     drain         draining
assigned drain         draining
working  drain         draining
blocked  drain         draining
draining drain         draining
offline  drain         offline
draining resume        idle
draining resume_busy   working
offline  resume        offline
idle     block         blocked
blocked  unblock       idle
idle     lose          offline
assigned lose          offline
working  lose          offline
blocked  lose          offline
draining lose          offline
offline  lose          offline
"""


def test_the_table_is_this_one() -> None:
    assert {(was.value, event, now.value) for (was, event), now in AGENT_EDGES.items()} == {
        tuple(line.split()) for line in TABLE.split("\n") if line
    }


def test_every_state_can_be_lost_and_come_back() -> None:
    assert {was for was, event in AGENT_EDGES if event == "lose"} == set(AgentState)
    assert set(AGENT_EDGES.values()) == set(AgentState)


def test_an_agent_changes_state_by_the_table_alone() -> None:
    agent = Agent("a")
    agent.fire("join")

    assert agent.state is AgentState.IDLE
    with pytest.raises(IllegalTransition) as caught:
        agent.fire("free")
    assert str(caught.value) == "agent a: 'free' is not allowed in state idle; allowed: claim, drain, block, lose"
    assert agent.state is AgentState.IDLE


@pytest.mark.parametrize(
    "state, free",
    [
        (AgentState.OFFLINE, 0),
        (AgentState.IDLE, 2),
        (AgentState.ASSIGNED, 2),
        (AgentState.WORKING, 2),
        (AgentState.BLOCKED, 0),
        (AgentState.DRAINING, 0),
    ],
)
def test_only_an_agent_that_may_work_has_free_slots(state: AgentState, free: int) -> None:
    agent = Agent("a", slots=3, state=state)
    agent.held["t"] = Held("t", 1, "a", 1, 0.0)

    assert agent.free_slots == free


def test_an_agent_that_is_about_to_leave_has_no_free_slot() -> None:
    assert Agent("a", slots=3, state=AgentState.IDLE, is_leaving=True).free_slots == 0


def test_an_agent_that_came_back_with_fewer_slots_than_it_holds_has_none_free() -> None:
    agent = Agent("a", slots=1, state=AgentState.WORKING)
    agent.held |= {task: Held(task, 1, "a", 1, 0.0) for task in "tuv"}

    assert agent.free_slots == 0


def test_agents_that_can_do_the_same_share_one_object_which_goes_with_the_last_of_them() -> None:
    first, second = (Agent(name, capabilities=same(("shell", "gpu"))) for name in "ab")

    assert first.capabilities is second.capabilities
    known = weakref.ref(first.capabilities)
    first.capabilities = second.capabilities = same(())
    assert known() is None

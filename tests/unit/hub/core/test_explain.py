"""The promise of explanations: the scheduler's own reasons, agent by agent, and what would change them."""

import pytest
from msgspec.structs import replace

from hub.core.agent import Held
from hub.core.board import Board
from hub.core.explain import SIDECAR, standing, waiting
from hub.core.fleet import Fleet
from hub.core.health import Health
from hub.core.routing import Requirements
from hub.core.speeds import Demand, Speeds
from protocol.endpoints import EndpointState
from protocol.model import AgentState, EndpointKind, EndpointReport, ModelReport, Residency, Strategy, TaskState
from tests.support.machines import add, model

SHELL = Requirements(executor="shell", strategies=(Strategy.TRIVIAL,))
BOTH = (Strategy.LOCAL_LLM, Strategy.CLOUD_LLM)


def fleet(**agents: str) -> Fleet:
    made = Fleet()
    for name, capabilities in agents.items():
        agent = made.agent(name)
        agent.state, agent.capabilities, agent.host = AgentState.IDLE, frozenset(capabilities.split()), f"host-{name}"
    return made


def test_without_agents_the_way_out_is_to_start_one() -> None:
    summary, unblock, agents = waiting(Fleet(), SHELL)

    assert summary == "no agent is online"
    assert unblock == ("start a sidecar: agentcom sidecar --hub URL --token-file FILE",)
    assert agents == ()


def test_a_task_that_could_run_is_about_to() -> None:
    summary, unblock, agents = waiting(fleet(b="executor:shell", a="executor:shell"), SHELL)

    assert (summary, unblock) == ("it is about to be assigned", ())
    assert [(a.agent, a.host, a.state, a.reasons) for a in agents] == [
        ("a", "host-a", AgentState.IDLE, ()),
        ("b", "host-b", AgentState.IDLE, ()),
    ]


def test_busy_agents_are_named() -> None:
    made = fleet(a="executor:shell", b="executor:noop")
    made.take(Held("t", 1, "a", 1, 0.0))
    summary, unblock, agents = waiting(made, SHELL)

    assert summary == "all agents that can do it are busy: a"
    assert unblock == ("wait for a free slot", f"add an agent: {SIDECAR}", f"give one more slots: {SIDECAR} --slots N")
    assert [a.reasons for a in agents] == [("all 1 slots are in use",), ("lacks 'executor:shell'",)]


@pytest.mark.parametrize(
    "requirements, change, way_out",
    [
        (SHELL, {"state": AgentState.OFFLINE}, f"start a again: {SIDECAR} --name a"),
        (SHELL, {"is_draining": True}, "let it take work again: agentcom agents resume a"),
        (
            Requirements(executor="shell", strategies=(Strategy.TRIVIAL,), needs=("gpu",)),
            {},
            "give an agent the capability: agentcom sidecar --capability gpu",
        ),
        (
            Requirements(executor="shell", strategies=(Strategy.LOCAL_LLM,)),
            {},
            "start Ollama beside a sidecar, or add an endpoint: agentcom endpoints add KIND URL",
        ),
        (
            Requirements(executor="shell", strategies=(Strategy.CLOUD_LLM,)),
            {},
            "give a sidecar a key: ANTHROPIC_API_KEY or OPENAI_API_KEY in its environment",
        ),
        (
            Requirements(executor="shell", strategies=(Strategy.LOCAL_LLM,), model="big"),
            {
                "endpoints": (
                    EndpointReport(
                        id="e", kind=EndpointKind.OLLAMA, url="u", local=True, models=(ModelReport(name="s"),)
                    ),
                )
            },
            "pull the model on a host: ollama pull big",
        ),
    ],
)
def test_the_way_out_follows_from_what_is_missing(
    requirements: Requirements, change: dict[str, object], way_out: str
) -> None:
    made = fleet(a="executor:shell", other="executor:noop")
    for name, value in change.items():
        setattr(made.agents["a"], name, value)
    summary, unblock, _ = waiting(made, requirements)

    assert summary.startswith("no agent that is online can do it: ")
    assert way_out in unblock


def test_an_agent_that_can_confine_nothing_says_what_it_needs() -> None:
    _, unblock, agents = waiting(fleet(a="executor:noop sandbox:none"), SHELL)

    assert agents[0].reasons == ("lacks 'executor:shell'", "has no sandbox, so it runs no commands")
    assert unblock == ("install bubblewrap on the agent's host (apt install bubblewrap) and start the agent again",)


def test_every_strategy_that_fails_is_explained() -> None:
    _, unblock, agents = waiting(fleet(a="executor:chat"), Requirements(executor="chat", strategies=BOTH))

    assert agents[0].reasons == ("has no local LLM endpoint", "has no cloud LLM endpoint")
    assert len(unblock) == 2


def test_one_strategy_that_works_is_reason_enough() -> None:
    made = fleet(a="executor:chat")
    made.agents["a"].endpoints = (
        EndpointReport(id="e", kind=EndpointKind.OLLAMA, url="u", local=True, models=(ModelReport(name="s"),)),
    )

    assert waiting(made, Requirements(executor="chat", strategies=BOTH))[2][0].reasons == ()


@pytest.mark.parametrize(
    "state, reason, ready_in_s, text",
    [
        (TaskState.BLOCKED, "x is queued", None, "it waits for other tasks: x is queued"),
        (TaskState.BLOCKED, "", None, "it waits for other tasks"),
        (TaskState.QUEUED, "exit 1", 12.3, "it may start in 12 s (exit 1)"),
        (TaskState.QUEUED, "", 12.3, "it may start in 12 s"),
        (TaskState.QUEUED, "", None, "it is queued"),
        (TaskState.ASSIGNED, "", None, "it is assigned on a"),
        (TaskState.RUNNING, "x", None, "it is running on a"),
        (TaskState.COMPLETED, "", None, "it is completed"),
        (TaskState.DEAD, "exit 1", None, "it is dead: exit 1"),
    ],
)
def test_a_task_that_waits_for_no_agent_says_where_it_stands(
    state: TaskState, reason: str, ready_in_s: float | None, text: str
) -> None:
    assert standing(state, agent="a", reason=reason, ready_in_s=ready_in_s) == text


def test_what_else_stands_in_the_way_of_an_agent_is_no_way_out() -> None:
    made = fleet(a="executor:shell", b="executor:noop")
    made.agents["b"].state = AgentState.OFFLINE
    made.agents["a"].is_draining = True
    _, unblock, _ = waiting(made, SHELL)

    assert unblock == ("let it take work again: agentcom agents resume a",)


def test_an_agent_that_is_left_out_after_a_failure_says_so() -> None:
    made = fleet(a="executor:shell", b="executor:shell")
    _, _, agents = waiting(made, replace(SHELL, avoid=("agent:a",)))

    assert [each.reasons for each in agents] == [("has failed this task before, and others are left",), ()]


# --- work for models ------------------------------------------------------------------------------------------------

CHAT = Requirements(executor="chat", strategies=(Strategy.LOCAL_LLM,), model="m")
DEMAND = Demand(1_000.0, 100.0)


def test_a_task_that_waits_for_a_warm_server_says_so_in_seconds() -> None:
    made = Fleet()
    add(made, "warm", model("m", 4.0, Residency.WARM))
    add(made, "cold", model("m", 20.0))
    held = Held("t", 1, "warm", 1, 0.0, server=("warm", "ollama"), model="m", ends_at=5.0)
    made.take(held)

    summary, unblock, agents = waiting(made, CHAT, Board(made, Speeds(), 0.0), DEMAND)
    assert summary == (
        "its turn comes on warm in about 5 s, where it is expected to end first, "
        "after 8.0 s (wait 5.0, reading 1.0, writing 2.0)"
    )
    assert unblock == ("wait for it", "load it on another host, too: ollama pull m")
    assert [(each.agent, each.cost["total_s"]) for each in agents] == [("cold", 23.0), ("warm", 9.5)]


def test_a_model_that_fits_nowhere_says_what_is_missing() -> None:
    made = Fleet()
    add(made, "small", model("m", 40.0))

    summary, unblock, agents = waiting(made, CHAT, Board(made, Speeds(), 0.0), DEMAND)
    assert summary == "its model fits on no server that could answer"
    assert unblock == (
        "submit it for a smaller model: agentcom submit --model NAME",
        "free GPU memory: agentcom hosts ls",
    )
    assert agents[0].reasons == ("has 22.8 GB for models, it needs 40.0 GB",)


def test_an_agent_with_the_second_choice_only_says_what_comes_first() -> None:
    made = Fleet()
    add(made, "local", model("m", 4.0, Residency.WARM))
    made.agent("other")
    add(made, "other")
    cloud = EndpointReport(
        id="claude", kind=EndpointKind.ANTHROPIC, url="u", local=False, default_model="x", parallel=1
    )
    made.agents["other"].endpoints = (cloud,)
    made.changed()
    held = Held("t", 1, "other", 1, 0.0, server=("other", "claude"), model="x", ends_at=9.0, service_s=9.0)
    made.take(held)
    wants = Requirements(executor="chat", strategies=(Strategy.CLOUD_LLM, Strategy.LOCAL_LLM), patience_s=60.0)

    summary, unblock, agents = waiting(made, wants, Board(made, Speeds(), 0.0), DEMAND)
    assert agents[0].reasons == ("offers local_llm only, and cloud_llm comes first",)
    assert summary.startswith("its turn comes on other in about 9 s (after 60 s it may go to local_llm), where it is ")
    assert unblock == ("wait for it",)


def test_a_cooldown_says_when_it_ends() -> None:
    made = Fleet()
    add(made, "a", model("m"))
    until_ms = 1_700_000_000_000  # 2023-11-14 22:13:20 UTC
    made.health["a", "ollama"] = Health(state=EndpointState.COOLDOWN, until_ms=until_ms, problem="429")
    made.changed()

    _, unblock, agents = waiting(made, CHAT)
    assert agents[0].reasons == ("its LLM endpoint ollama is in cooldown until 22:13:20 UTC: 429",)
    assert unblock[0] == "wait until the cooldown is over: agentcom endpoints ls"

"""The promises of matching: hard gates only, every refusal has its reason, nothing is remembered beyond a change."""

import msgspec
import pytest

from hub.core.fleet import Fleet
from hub.core.health import Health
from hub.core.matching import MAX_CANDIDATES, Matcher, match, reasons_against, way_of
from hub.core.routing import Requirements, Way
from protocol.endpoints import EndpointState
from protocol.model import AgentState, EndpointKind, EndpointReport, ModelReport, Strategy

SHELL = Requirements(executor="shell", strategies=(Strategy.TRIVIAL,))
CHAT = Requirements(executor="chat", strategies=(Strategy.LOCAL_LLM, Strategy.CLOUD_LLM))
OLLAMA = EndpointReport(
    id="ollama@a",
    kind=EndpointKind.OLLAMA,
    url="u",
    local=True,
    models=(ModelReport(name="small"), ModelReport(name="big")),
)
CLAUDE = EndpointReport(id="claude", kind=EndpointKind.ANTHROPIC, url="u", local=False, default_model="claude-x")


def fleet(**agents: str) -> Fleet:
    """Idle agents with these capabilities."""
    made = Fleet()
    for name, capabilities in agents.items():
        agent = made.agent(name)
        agent.state, agent.capabilities = AgentState.IDLE, frozenset(capabilities.split())
    return made


def test_an_agent_that_can_do_it_has_nothing_against_it() -> None:
    made = fleet(a="executor:shell gpu")

    assert reasons_against(made.agents["a"], SHELL) == []


def test_everything_that_speaks_against_an_agent_is_named() -> None:
    made = fleet(a="executor:noop")
    agent = made.agents["a"]
    agent.state, agent.is_draining, agent.is_leaving = AgentState.OFFLINE, True, True
    needs_more = Requirements(executor="shell", strategies=(Strategy.TRIVIAL,), needs=("gpu",))

    assert reasons_against(agent, needs_more) == [
        "is offline",
        "is draining",
        "is about to leave",
        "lacks 'executor:shell'",
        "lacks 'gpu'",
    ]
    agent.state, agent.is_draining, agent.is_leaving = AgentState.BLOCKED, False, False
    assert reasons_against(agent, SHELL) == ["is blocked", "lacks 'executor:shell'"]


@pytest.mark.parametrize(
    "endpoints, strategy, wanted, way",
    [
        ((), Strategy.TRIVIAL, "", Way(agent="a", strategy=Strategy.TRIVIAL)),
        (
            (OLLAMA,),
            Strategy.LOCAL_LLM,
            "",
            Way(agent="a", strategy=Strategy.LOCAL_LLM, endpoint="ollama@a", model="small"),
        ),
        (
            (OLLAMA,),
            Strategy.LOCAL_LLM,
            "big",
            Way(agent="a", strategy=Strategy.LOCAL_LLM, endpoint="ollama@a", model="big"),
        ),
        ((OLLAMA,), Strategy.LOCAL_LLM, "huge", "has no model 'huge' (offers big, small)"),
        ((OLLAMA,), Strategy.CLOUD_LLM, "", "has no cloud LLM endpoint"),
        ((CLAUDE,), Strategy.LOCAL_LLM, "", "has no local LLM endpoint"),
        (
            (CLAUDE,),
            Strategy.CLOUD_LLM,
            "",
            Way(agent="a", strategy=Strategy.CLOUD_LLM, endpoint="claude", model="claude-x"),
        ),
        ((CLAUDE,), Strategy.CLOUD_LLM, "gpt", "has no model 'gpt' (offers none)"),
        (
            (EndpointReport(id="o", kind=EndpointKind.OLLAMA, url="u", local=True),),
            Strategy.LOCAL_LLM,
            "",
            "its LLM endpoints offer no model",
        ),
        (
            (EndpointReport(id="empty", kind=EndpointKind.OLLAMA, url="u", local=True), OLLAMA),
            Strategy.LOCAL_LLM,
            "",
            Way(agent="a", strategy=Strategy.LOCAL_LLM, endpoint="ollama@a", model="small"),
        ),
    ],
)
def test_a_strategy_is_followed_with_an_endpoint_that_has_the_model(
    endpoints: tuple[EndpointReport, ...], strategy: Strategy, wanted: str, way: Way | str
) -> None:
    made = fleet(a="executor:chat")
    made.agents["a"].endpoints = endpoints
    requirements = Requirements(executor="chat", strategies=(strategy,), model=wanted)

    assert way_of(made, made.agents["a"], strategy, requirements) == way


def test_an_endpoint_that_people_have_added_serves_every_agent_after_its_own() -> None:
    made = fleet(a="executor:chat", b="executor:chat")
    made.agents["a"].endpoints = (OLLAMA,)
    made.endpoints = (
        EndpointReport(id="shared", kind=EndpointKind.OPENAI, url="u", local=True, models=(ModelReport(name="m"),)),
    )

    assert [way.endpoint for way in match(made, CHAT).ways] == ["ollama@a", "shared"]


def test_the_first_strategy_that_anyone_offers_wins() -> None:
    made = fleet(a="executor:chat", b="executor:chat")
    made.agents["a"].endpoints = (CLAUDE,)
    found = match(made, CHAT)

    assert [(way.agent, way.strategy) for way in found.ways] == [("a", Strategy.CLOUD_LLM)]
    assert found.reason == "chat work goes to cloud_llm, since no agent online offers local_llm"

    made.agents["b"].endpoints = (OLLAMA,)
    found = match(made, CHAT)
    assert [(way.agent, way.strategy) for way in found.ways] == [("b", Strategy.LOCAL_LLM)]
    assert found.reason == "chat work goes to local_llm, the first choice for its tier"


def test_work_for_an_agent_of_somebody_else_goes_where_it_is_and_says_who_asks_models() -> None:
    made = fleet(a="executor:acp agent:one", b="executor:acp agent:two", c="executor:shell")
    wanted = Requirements(executor="acp", strategies=(Strategy.TRIVIAL,), needs=("agent:two",))
    found = match(made, wanted)

    assert found.ways == (Way(agent="b", strategy=Strategy.TRIVIAL),)
    assert found.reason == "acp work is done by a program that asks models by itself"


def test_every_candidate_is_kept_with_its_reasons() -> None:
    made = fleet(a="executor:chat", b="executor:noop", c="executor:chat")
    made.agents["a"].endpoints = made.agents["b"].endpoints = (OLLAMA,)
    candidates = {c.agent: c for c in match(made, CHAT).candidates}

    assert (candidates["a"].feasible, candidates["a"].endpoint, candidates["a"].model) == (True, "ollama@a", "small")
    assert (candidates["b"].feasible, candidates["b"].reasons) == (False, ("lacks 'executor:chat'",))
    assert (candidates["c"].feasible, candidates["c"].reasons) == (False, ("has no local LLM endpoint",))


def test_an_agent_that_is_offline_is_no_candidate() -> None:
    made = fleet(a="executor:shell")
    made.agents["a"].state = AgentState.OFFLINE
    found = match(made, SHELL)

    assert (found.ways, found.candidates, found.reason) == ((), (), "none has all it needs")


def test_without_a_strategy_nothing_matches_and_it_says_so() -> None:
    assert (
        match(fleet(a="executor:chat"), Requirements(executor="chat", strategies=())).reason
        == "no strategy is configured"
    )


def test_a_match_is_remembered_until_the_fleet_changes() -> None:
    made = fleet(a="executor:shell")
    matcher = Matcher(made)
    first = matcher.match(SHELL)

    assert matcher.match(SHELL) is first
    made.agents["a"].is_draining = True
    made.changed()
    assert matcher.match(SHELL).ways == ()


def test_only_so_many_matches_are_remembered() -> None:
    made = fleet(**{f"a{number}": "executor:shell" for number in range(1_000)})
    matcher = Matcher(made)
    kinds = MAX_CANDIDATES // 1_000
    for number in range(kinds):
        matcher.match(Requirements(executor="shell", strategies=(Strategy.TRIVIAL,), needs=(f"n{number}",)))
    assert matcher.candidates == MAX_CANDIDATES

    matcher.match(SHELL)
    assert matcher.candidates == 1_000


def test_a_model_whose_context_is_certainly_too_small_is_no_way() -> None:
    made = fleet(a="executor:chat", b="executor:chat")
    for name, context in (("a", 8_192), ("b", 65_536)):
        served = ModelReport(name="m", context=context)
        made.agents[name].endpoints = (
            EndpointReport(id="llama", kind=EndpointKind.OPENAI, url="u", local=True, models=(served,)),
        )
    found = match(made, Requirements(executor="chat", strategies=(Strategy.LOCAL_LLM,), model="m", context=32_768))

    assert [way.agent for way in found.ways] == ["b"]
    assert found.candidates[0].reasons == (
        "m on llama takes 8192 tokens, the task needs more than 17408 with its answer",
    )


def test_of_several_endpoints_one_with_enough_context_is_taken() -> None:
    made = fleet(a="executor:chat")
    made.agents["a"].endpoints = tuple(
        EndpointReport(
            id=name, kind=EndpointKind.OPENAI, url="u", local=True, models=(ModelReport(name="m", context=context),)
        )
        for name, context in (("small", 4_096), ("large", 131_072))
    )
    found = match(made, Requirements(executor="chat", strategies=(Strategy.LOCAL_LLM,), context=16_384))

    assert [way.endpoint for way in found.ways] == ["large"]


@pytest.mark.parametrize(
    "state, is_open", [("online", True), ("half_open", True), ("offline", False), ("cooldown", False)]
)
def test_an_endpoint_in_trouble_is_given_no_work_and_the_reason_says_why(state: str, is_open: bool) -> None:
    made = fleet(a="executor:chat")
    made.agents["a"].endpoints, made.agents["a"].host = (OLLAMA,), "box"
    made.health["box", "ollama@a"] = Health(state=EndpointState(state), problem="HTTP 429: slow down")

    found = way_of(made, made.agents["a"], Strategy.LOCAL_LLM, CHAT)

    assert isinstance(found, Way) is is_open
    if not is_open:
        assert found == f"its LLM endpoint ollama@a is in {state}: HTTP 429: slow down"


def test_an_endpoint_of_the_same_name_elsewhere_is_another_one() -> None:
    made = fleet(a="executor:chat")
    made.agents["a"].endpoints = (OLLAMA,)
    made.health["box", "ollama@a"] = made.health["", "ollama@a"] = Health(state=EndpointState.COOLDOWN)

    assert isinstance(way_of(made, made.agents["a"], Strategy.LOCAL_LLM, CHAT), Way)


ADDED = EndpointReport(
    id="box", kind=EndpointKind.OLLAMA, url="http://10.0.0.7:11434", local=True, models=(ModelReport(name="small"),)
)
TAKEN = "executor:chat gpu:reclaimed gpu:reclaimed:10.0.0.7 gpu:reclaimed:gpubox"


@pytest.mark.parametrize("url", ["http://10.0.0.7:11434", "http://gpubox:11434", "http://GPUbox.lan:11434"])
def test_an_endpoint_on_a_machine_whose_owner_wants_the_gpu_back_serves_nobody(url: str) -> None:
    made = fleet(a="executor:chat", b="executor:chat")
    made.endpoints = (msgspec.structs.replace(ADDED, url=url),)
    matcher = Matcher(made)
    assert {way.agent for way in matcher.match(CHAT).ways} == {"a", "b"}
    made.agents["b"].capabilities = frozenset(TAKEN.split())
    made.changed(made.agents["b"])

    assert matcher.match(CHAT).ways == ()
    why = way_of(made, made.agents["a"], Strategy.LOCAL_LLM, CHAT)
    assert why == "the owner of the machine of LLM endpoint box has taken the GPU back"
    made.agents["b"].capabilities = frozenset({"executor:chat"})
    made.changed(made.agents["b"])
    assert {way.agent for way in matcher.match(CHAT).ways} == {"a", "b"}
    made.agents["b"].capabilities = frozenset(TAKEN.split())
    made.changed(made.agents["b"])
    made.forget("b")
    assert {way.agent for way in matcher.match(CHAT).ways} == {"a"}


def test_an_address_that_leads_nowhere_else_is_that_of_each_machine() -> None:
    made = fleet(a="executor:chat", b=TAKEN)
    made.endpoints = (msgspec.structs.replace(ADDED, url="http://127.0.0.1:11434"),)
    made.changed(made.agents["b"])

    assert {way.agent for way in match(made, CHAT).ways} == {"a"}
    assert {way.agent for way in match(made, CHAT, is_wide=True).ways} == {"a"}


def test_other_endpoints_serve_on_when_a_gpu_is_taken_back() -> None:
    made = fleet(a="executor:chat", b=TAKEN)
    made.endpoints = (msgspec.structs.replace(ADDED, url="http://10.0.0.8:11434"), CLAUDE)
    made.changed(made.agents["b"])

    assert {way.agent for way in match(made, CHAT).ways} == {"a", "b"}

"""Where work goes that cannot have its first choice (after failures, after waiting), and what is kept of decisions."""

from msgspec.structs import replace

from hub.core.agent import Held
from hub.core.decision import MAX_PLAIN, MAX_WEIGHED, candidates, is_lower, why
from hub.core.fleet import Fleet
from hub.core.matching import Matcher, match
from hub.core.policy import avoided
from hub.core.routing import MAX_AVOIDED, Requirements, class_afresh, class_after, requirements_of
from hub.core.scheduling import Assignment, plan
from hub.core.speeds import Speeds
from hub.core.window import Window
from protocol.ids import encode
from protocol.model import AgentState, EndpointKind, EndpointReport, FailureClass, Residency, Strategy
from tests.support.machines import add, model

CLOUD, LOCAL = Strategy.CLOUD_LLM, Strategy.LOCAL_LLM
COMPLEX = Requirements(executor="chat", strategies=(CLOUD, LOCAL))
SHELL = Requirements(executor="shell", strategies=(Strategy.TRIVIAL,))
CLAUDE = EndpointReport(
    id="claude", kind=EndpointKind.ANTHROPIC, url="https://x.invalid", local=False, default_model="claude-x", parallel=1
)


def task(number: int) -> str:
    return encode((1_700_000_000_000 << 80) | number)


def fleet(*names: str) -> Fleet:
    made = Fleet()
    for name in names or ("a", "b"):
        add(made, name, model("m", 4.0, Residency.WARM))
    return made


def one(made: Fleet, requirements: Requirements, speeds: Speeds | None = None) -> Assignment | None:
    waiting = Window()
    waiting.add(requirements.text, (2, task(1)))
    return next(plan(waiting, made, Matcher(made), speeds or Speeds()), None)


def busy(made: Fleet, seconds: float) -> None:
    """The hosted model answers somebody else for so long."""
    held = Held("other", 1, "a", 1, 0.0)
    held.server, held.model, held.ends_at, held.service_s = ("", "claude"), "claude-x", seconds, seconds
    made.take(held)


# --- after failures ---------------------------------------------------------------------------------------------------


def test_the_machinery_fails_with_its_agent_a_quota_with_its_endpoint_and_the_work_anywhere() -> None:
    held = Held("t", 1, "a", 1, 0.0, server=("h", "ollama"))

    assert avoided(held, FailureClass.INFRA) == "agent:a"
    assert avoided(held, FailureClass.QUOTA) == "endpoint:h/ollama"
    assert [avoided(held, failure) for failure in (None, FailureClass.AGENT, FailureClass.VERIFY)] == ["", "", ""]
    assert avoided(Held("t", 1, "a", 1, 0.0), FailureClass.QUOTA) == ""


def test_a_task_goes_elsewhere_after_an_agent_has_failed_it() -> None:
    failed = requirements_of(class_after(SHELL.text, 0, "agent:a"))

    assert [way.agent for way in match(fleet(), failed).ways] == ["b"]
    assert {way.agent for way in match(fleet(), SHELL).ways} == {"a", "b"}


def test_a_task_that_has_failed_everywhere_is_not_without_a_place() -> None:
    failed = requirements_of(class_after(class_after(SHELL.text, 0, "agent:a"), 0, "agent:b"))

    assert {way.agent for way in match(fleet(), failed).ways} == {"a", "b"}
    assert [way.agent for way in match(fleet("a"), failed).ways] == ["a"]


def test_an_endpoint_that_has_refused_a_task_is_avoided_on_its_host_only() -> None:
    local = Requirements(executor="chat", strategies=(LOCAL,), model="m")
    failed = requirements_of(class_after(local.text, 0, "endpoint:a/ollama"))

    assert [way.agent for way in match(fleet(), failed).ways] == ["b"]


def test_failures_never_lead_to_another_strategy_by_themselves() -> None:
    made = fleet("a")
    made.endpoints = (CLAUDE,)
    failed = requirements_of(class_after(replace(COMPLEX, strategies=(LOCAL, CLOUD)).text, 0, "agent:a"))

    assert {way.strategy for way in match(made, failed).ways} == {LOCAL}


def test_only_the_last_few_failures_are_held_against_a_place() -> None:
    text = SHELL.text
    for name in "abcdef":
        text = class_after(text, 0, f"agent:{name}")
    text = class_after(text, 0, "agent:f")

    assert requirements_of(text).avoid == tuple(f"agent:{name}" for name in "cdef")
    assert len(requirements_of(text).avoid) == MAX_AVOIDED
    assert class_afresh(text) == SHELL.text
    assert requirements_of(text).kind == SHELL.kind


# --- after waiting ----------------------------------------------------------------------------------------------------


def test_work_waits_for_the_better_one_as_long_as_it_is_told_to() -> None:
    made = fleet("a")
    made.endpoints = (CLAUDE,)
    busy(made, 50.0)

    assert one(made, COMPLEX) is None  # for ever
    assert one(made, replace(COMPLEX, patience_s=60.0)) is None
    chosen = one(made, replace(COMPLEX, patience_s=20.0))
    assert chosen is not None
    assert chosen.way.strategy is LOCAL
    assert why(chosen).startswith("cloud_llm would take longer than 20 s to begin, so it goes to local_llm; on a ")


def test_a_free_first_choice_is_taken_however_short_the_patience() -> None:
    made = fleet("a")
    made.endpoints = (CLAUDE,)
    chosen = one(made, replace(COMPLEX, patience_s=0.1))

    assert chosen is not None
    assert chosen.way.strategy is CLOUD


def test_a_second_choice_that_is_no_sooner_is_not_taken() -> None:
    made = fleet("a")
    made.endpoints = (CLAUDE,)
    busy(made, 50.0)
    held = Held("local", 1, "a", 1, 0.0)
    held.server, held.model, held.ends_at, held.service_s = ("a", "ollama"), "m", 70.0, 70.0
    made.take(held)

    assert one(made, replace(COMPLEX, patience_s=20.0)) is None


def test_a_local_model_for_a_hosted_one_is_lower_and_not_the_other_way_round() -> None:
    assert is_lower(LOCAL, CLOUD)
    assert not is_lower(CLOUD, CLOUD)
    assert not is_lower(CLOUD, LOCAL)


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_the_chosen_way_is_kept_first_then_the_others_by_their_cost() -> None:
    made = Fleet()
    add(made, "cold", model("m", 9.0))
    add(made, "warm", model("m", 4.0, Residency.WARM))
    add(made, "off", model("m", 4.0))
    add(made, "none")
    made.agents["off"].state = AgentState.OFFLINE
    chosen = one(made, Requirements(executor="chat", strategies=(LOCAL,), model="m"))
    assert chosen is not None
    kept = candidates(chosen)

    assert [(each.agent, each.feasible) for each in kept] == [("warm", True), ("cold", True), ("none", False)]
    assert kept[0].cost["total_s"] < kept[1].cost["total_s"]
    assert kept[1].cost["load_s"] == 9.0
    assert kept[2].reasons == ("has no model 'm' (offers none)",)


def test_a_decision_stays_small_whatever_the_fleet() -> None:
    names = [f"n{number:02}" for number in range(40)]
    made = fleet(*names)
    plain, weighed = one(made, SHELL), one(made, Requirements(executor="chat", strategies=(LOCAL,), model="m"))
    assert plain is not None
    assert weighed is not None

    assert len(candidates(plain)) == MAX_PLAIN
    assert len(candidates(weighed)) == MAX_WEIGHED
    assert candidates(weighed)[0].agent == weighed.agent.name
    assert why(plain) == f"shell work needs no model: trivial, zero tokens; {plain.agent.name} had the most free room"

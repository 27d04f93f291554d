"""The promises of routing: the same requirements are one class, and the way of a task follows from its spec alone."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.routing import (
    DEFAULT_CHAINS,
    Placement,
    Requirements,
    class_after,
    decode_placement,
    encode_placement,
    model_on,
    repo_digest,
    requirements_of,
    route,
    routing_of,
)
from protocol.checks import (
    Check,
    CheckCommandSucceeds,
    CheckCoverageNotLower,
    CheckGitClean,
    CheckHttpOk,
    CheckJudge,
    CheckNoPlaceholders,
    CheckNoSecrets,
    CheckPlugin,
    CheckTestPasses,
)
from protocol.limits import ALONE_FROM_DEATHS
from protocol.model import Candidate, Context, EndpointKind, EndpointReport, ModelReport, Strategy, TaskSpec, Tier

LOCAL_FIRST = (Strategy.LOCAL_LLM, Strategy.CLOUD_LLM)
CLOUD_FIRST = (Strategy.CLOUD_LLM, Strategy.LOCAL_LLM)


@pytest.mark.parametrize(
    "spec, executor, strategies",
    [
        (TaskSpec(command="true"), "shell", (Strategy.TRIVIAL,)),
        (TaskSpec(command="true", title="Fix the race"), "shell", (Strategy.TRIVIAL,)),
        (TaskSpec(title="x", executor="noop"), "noop", (Strategy.TRIVIAL,)),
        (TaskSpec(title="x"), "chat", LOCAL_FIRST),
        (TaskSpec(title="Fix the race"), "chat", CLOUD_FIRST),
        (TaskSpec(title="x", complexity=Tier.COMPLEX), "chat", CLOUD_FIRST),
        (TaskSpec(title="x", context=Context(repo="r")), "agent", LOCAL_FIRST),
        (TaskSpec(title="x", context=Context(files=("a",))), "agent", LOCAL_FIRST),
        (TaskSpec(title="x", verification=(CheckGitClean(),)), "agent", LOCAL_FIRST),
        (TaskSpec(title="x", verification=(CheckGitClean(),), save_as="a.md"), "chat", LOCAL_FIRST),
        (TaskSpec(title="x", executor="agent", command="make"), "agent", LOCAL_FIRST),
        (TaskSpec(title="Fix the race", executor="acp", model="m"), "acp", (Strategy.TRIVIAL,)),
    ],
)
def test_the_spec_decides_the_executor_and_the_tier_the_strategies(
    spec: TaskSpec, executor: str, strategies: tuple[Strategy, ...]
) -> None:
    _, requirements = route(spec)

    assert (requirements.executor, requirements.strategies) == (executor, strategies)


def test_the_chain_of_a_tier_can_be_set_and_an_empty_one_means_the_default() -> None:
    only_cloud = route(TaskSpec(title="x"), {Tier.STANDARD: (Strategy.CLOUD_LLM,)})[1]
    empty = route(TaskSpec(title="x"), {Tier.STANDARD: ()})[1]
    missing = route(TaskSpec(title="x"), {})[1]

    assert only_cloud.strategies == (Strategy.CLOUD_LLM,)
    assert empty.strategies == missing.strategies == DEFAULT_CHAINS[Tier.STANDARD]


def test_a_model_matters_only_to_work_that_needs_one() -> None:
    assert route(TaskSpec(title="x", model="qwen3:8b"))[1].model == "qwen3:8b"
    assert route(TaskSpec(command="true", model="qwen3:8b"))[1].model == ""


def test_tasks_with_equal_requirements_are_one_class() -> None:
    one = route(TaskSpec(command="true", needs=("gpu", "cuda"), title="one"))[1]
    other = route(TaskSpec(command="false", needs=("cuda", "gpu", "gpu"), max_retries=0))[1]
    different = route(TaskSpec(command="true", needs=("gpu",)))[1]

    assert one.text == other.text == '{"executor":"shell","needs":["cuda","gpu"],"strategies":["trivial"]}'
    assert one.text != different.text


@given(
    st.builds(
        Requirements,
        executor=st.text(max_size=5),
        strategies=st.lists(st.sampled_from(Strategy), max_size=3).map(tuple),
        model=st.text(max_size=5),
        needs=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    )
)
def test_a_class_can_be_read_back_from_its_text(requirements: Requirements) -> None:
    assert requirements_of(requirements.text) == requirements


def endpoint(
    *models: str, local: bool = True, default: str = "", kind: EndpointKind = EndpointKind.OLLAMA
) -> EndpointReport:
    return EndpointReport(
        id="e",
        kind=kind,
        url="u",
        local=local,
        models=tuple(ModelReport(name=m) for m in models),
        default_model=default,
    )


@pytest.mark.parametrize(
    "offered, wanted, used",
    [
        (endpoint("a", "b"), "", "a"),
        (endpoint("a", "b", default="b"), "", "b"),
        (endpoint(default="b"), "", "b"),
        (endpoint(), "", ""),
        (endpoint("a", "b"), "b", "b"),
        (endpoint("qwen3:latest"), "qwen3", "qwen3:latest"),
        (endpoint("qwen3:8b"), "qwen3", ""),
        (endpoint("a"), "c", ""),
        (endpoint(), "c", ""),
        (endpoint("a", local=False), "c", ""),
        (endpoint(local=False, kind=EndpointKind.ANTHROPIC), "claude-sonnet-4", "claude-sonnet-4"),
        (endpoint(local=False, kind=EndpointKind.ANTHROPIC), "gpt-5", ""),
        (endpoint(local=False, kind=EndpointKind.OPENAI), "gpt-5", "gpt-5"),
        (endpoint(local=False, kind=EndpointKind.OPENAI), "claude-sonnet-4", ""),
    ],
)
def test_a_wish_for_a_model_is_met_exactly_or_not_at_all(offered: EndpointReport, wanted: str, used: str) -> None:
    assert model_on(offered, wanted) == used


PLACEMENT = Placement(
    strategy=Strategy.LOCAL_LLM,
    executor="chat",
    agent="a",
    reason="because",
    at_ms=1_769_860_800_000,
    endpoint="e",
    model="m",
    candidates=(Candidate(strategy=Strategy.CLOUD_LLM, reasons=("none",)),),
)


def test_a_placement_can_be_read_back() -> None:
    assert decode_placement(encode_placement(PLACEMENT)) == PLACEMENT


def test_a_decision_shows_tier_and_placement_together() -> None:
    tier, _ = route(TaskSpec(title="x"))
    shown = routing_of(tier, PLACEMENT)

    assert (shown.tier, shown.strategy, shown.executor, shown.model) == (tier, Strategy.LOCAL_LLM, "chat", "m")
    assert (shown.endpoint, shown.agent, shown.reason) == ("e", "a", "because")
    assert shown.candidates == PLACEMENT.candidates
    assert shown.at == datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_a_task_nobody_has_shows_its_tier_alone() -> None:
    tier, _ = route(TaskSpec(title="x"))
    shown = routing_of(tier, None)

    assert (shown.tier, shown.strategy, shown.reason, shown.at) == (tier, None, "not assigned yet", None)


def test_what_is_of_one_repository_or_one_suspect_teaches_under_the_same_name() -> None:
    _, plain = route(TaskSpec(prompt="x", executor="agent"))
    _, one = route(TaskSpec(prompt="x", executor="agent", context=Context(repo="https://user:secret@h/r.git")))

    assert one.kind == plain.kind == plain.text
    assert class_after(one.text, ALONE_FROM_DEATHS) != one.text
    assert requirements_of(class_after(one.text, ALONE_FROM_DEATHS)).kind == plain.kind
    assert "secret" not in one.text
    assert one.repo == repo_digest("https://user:secret@h/r.git") != ""


def test_an_answer_needs_room_in_the_context_too() -> None:
    assert Requirements(executor="chat", strategies=(Strategy.LOCAL_LLM,)).tokens == 0
    assert Requirements(executor="chat", strategies=(Strategy.LOCAL_LLM,), context=8_192).tokens == 16_384


@pytest.mark.parametrize(
    "check, needs",
    [
        (CheckGitClean(), ()),
        (CheckTestPasses(command="x"), ()),
        (CheckTestPasses(command="x", may_edit=("tests/**",)), ("checks:2",)),
        (CheckNoPlaceholders(), ("checks:2",)),
        (CheckNoSecrets(), ("checks:3",)),
        (CheckCoverageNotLower(command="x"), ("checks:4",)),
        (CheckHttpOk(command="x", url="http://localhost:8000"), ("checks:4", "checks:http")),
        (CheckJudge(question="?"), ("checks:4", "checks:judge")),
        (CheckPlugin(plugin="licences"), ("checks:4", "checks:plugin:licences")),
        (CheckCommandSucceeds(command="x", may_edit=("check.sh",)), ("checks:3",)),
    ],
)
def test_newer_checks_go_only_to_sidecars_that_know_them(check: Check, needs: tuple[str, ...]) -> None:
    _, requirements = route(TaskSpec(command="x", verification=(check,)))

    assert requirements.needs == needs


def test_checks_of_two_ages_go_only_to_sidecars_that_know_both() -> None:
    mixed = (CheckNoPlaceholders(), CheckNoSecrets())
    _, requirements = route(TaskSpec(command="x", verification=mixed))

    assert requirements.needs == ("checks:3",)

"""The promises of pull requests: where they go, what they say, and that no word of a task is a command in them."""

import pytest
from msgspec.structs import replace

from hub.core.pulls import (
    LONGEST_S,
    MAX_TEXT_CHARS,
    PULL_EDGES,
    Place,
    Proof,
    Record,
    after,
    base_of,
    delay_s,
    is_about,
    may_go_on,
    place_of,
    text_of,
    title_of,
)
from hub.core.risk import Judgement
from protocol.errors import IllegalTransition
from protocol.model import Context, Finding, Iteration, TaskResult, TaskSpec, Usage
from protocol.pulls import Forge, PullRules, PullState, Risk

USAGE = Usage(model="m", endpoint="e", input_tokens=1_000, output_tokens=20, cost_usd=0.000021, seconds=3.0)
SPEC = TaskSpec(title="Mend it", prompt="It is broken", success_criteria=("it works",))
RESULT = TaskResult(
    execution_ok=True,
    verified=True,
    report=(Finding(name="pytest -q", type="test_passes", passed=True, detail="12 tests", seconds=1.25),),
    iterations=(Iteration(number=1, execution_ok=True, passed=True, usage=USAGE),),
    usage=USAGE,
    commit="c" * 40,
    checks="d" * 64,
)
PROOF = Proof("t1", 2, "Arbitrary", "host7", 2, SPEC, RESULT, USAGE.plus(USAGE), ("host8",))
RISKY = Judgement(Risk.HIGH, ("changes dependencies: go.mod",))


@pytest.mark.parametrize(
    "forge, address, place",
    [
        (Forge.FORGEJO, "https://f.example.org/a/b.git", Place("https://f.example.org/api/v1", "a", "b")),
        (Forge.GITEA, "https://f.example.org:3000/git/a/b", Place("https://f.example.org:3000/git/api/v1", "a", "b")),
        (Forge.GITHUB, "https://github.com/a/b.git", Place("https://api.github.com", "a", "b")),
        (Forge.GITHUB, "https://ghe.example.org/a/b", Place("https://ghe.example.org/api/v3", "a", "b")),
        (Forge.GITHUB, "https://github.com/x/a/b", None),
        (Forge.FORGEJO, "https://f.example.org/b.git", None),
        (Forge.FORGEJO, "https://f.example.org/../b.git", None),
        (Forge.FORGEJO, "https://f.example.org/a/b%2f..", None),
        (Forge.FORGEJO, "ssh://git@f.example.org/a/b.git", None),
        (Forge.FORGEJO, "git@f.example.org:a/b.git", None),
        (Forge.FORGEJO, "/srv/a/b.git", None),
        (Forge.FORGEJO, "", None),
    ],
)
def test_the_api_is_where_the_repository_is(forge: Forge, address: str, place: Place | None) -> None:
    assert place_of(forge, address) == place


def test_only_what_is_over_is_never_left() -> None:
    left = {state for state, _ in PULL_EDGES}

    assert set(PullState) - left == {PullState.MERGED, PullState.CLOSED}
    assert after(PullState.PENDING, "draft", "t") is PullState.DRAFT
    with pytest.raises(IllegalTransition, match="the pull request of task t: 'retry' is not allowed in state merged"):
        after(PullState.MERGED, "retry", "t")


def test_waiting_grows_to_a_limit() -> None:
    assert [delay_s(tries) for tries in (1, 2, 3, 8, 9, 1_000)] == [2.0, 4.0, 8.0, 256.0, LONGEST_S, LONGEST_S]


def test_only_what_is_safe_or_approved_goes_on() -> None:
    assert may_go_on(Record(risk=Risk.LOW))
    assert may_go_on(Record(risk=Risk.HIGH, approved_by="token"))
    assert not may_go_on(Record(risk=Risk.MEDIUM))
    assert not may_go_on(Record())


def test_a_request_is_for_the_branch_that_somebody_named() -> None:
    spec = TaskSpec(title="x", context=Context(repo="r", branch="dev"))

    assert base_of(PullRules(), Record(), spec) == "dev"
    assert base_of(PullRules(into="main"), Record(), spec) == "main"
    assert base_of(PullRules(into="main"), Record(into="next"), spec) == "next"
    assert base_of(PullRules(), Record(), TaskSpec(title="x")) == ""


def test_the_text_tells_task_proof_models_tokens_cost_and_risk() -> None:
    text = text_of(PROOF, RISKY)

    for fact in (
        "Mend it",
        "It is broken",
        "- it works",
        "verified: all checks passed",
        "the same checks passed on host8, too",
        "passed    pytest -q (test_passes, 1.2 s): 12 tests",
        f"sha256 {'d' * 64}",
        "t1, attempt 2 of 2, 1 iterations",
        "Arbitrary on host7",
        "m at e",
        "2,000 in (0 cached), 40 out",
        "0.000042 USD",
        "c" * 40,
        "high: waits for a person\n- changes dependencies: go.mod",
    ):
        assert fact in text
    assert "not looked at yet" in text_of(PROOF, None)
    unknown = PROOF._replace(usage=replace(USAGE, cost_usd=None))
    assert "cost:       not known" in text_of(unknown, None)


def test_a_request_tells_whose_it_is() -> None:
    assert is_about(text_of(PROOF, None), "t1")
    assert not is_about(text_of(PROOF, None), "t")
    assert not is_about("t1", "t1")


@pytest.mark.parametrize("verified", [True, False, None])
def test_the_text_never_says_more_than_was_proven(verified: bool | None) -> None:
    text = text_of(PROOF._replace(result=replace(RESULT, verified=verified)), None)

    assert ("verified: all checks passed" in text) == (verified is True)


def test_no_word_of_a_task_is_a_command_for_the_forge() -> None:
    evil = "```\n@everybody fixes #1 <img src=x> ![x](https://evil.example.org/)\n````"
    finding = Finding(name=evil, type="x", passed=False, detail=evil)
    spec = replace(SPEC, title=evil, prompt=evil, success_criteria=(evil,))
    text = text_of(PROOF._replace(spec=spec, result=replace(RESULT, report=(finding,))), RISKY)

    lines, fence, outside = text.splitlines(), "", []
    for line in lines:
        if fence:
            fence = "" if line == fence else fence
        elif line.startswith("```"):
            fence = line.removesuffix("text")
        else:
            outside.append(line)
    assert fence == ""
    assert "everybody" not in "".join(outside)
    assert "evil" not in "".join(outside)


def test_secrets_and_control_characters_are_not_told() -> None:
    secret = "ghp_" + "a1B2" * 9
    spec = replace(SPEC, title=f"Use {secret}\x1b[2J", prompt=f"key {secret}")

    assert secret not in text_of(PROOF._replace(spec=spec), None)
    assert secret not in title_of(spec)
    assert "\x1b" not in title_of(spec) + text_of(PROOF._replace(spec=spec), None)


def test_the_text_is_bounded_whatever_the_task_says() -> None:
    long = "x" * 100_000
    finding = Finding(name=long, type="x", passed=True, detail=long)
    spec = TaskSpec(title=long, prompt=long, success_criteria=(long,) * 500)
    text = text_of(PROOF._replace(spec=spec, result=replace(RESULT, report=(finding,) * 500)), RISKY)

    assert len(text) < MAX_TEXT_CHARS
    assert text.endswith("<!-- agentcom: task t1, attempt 2 -->")
    assert len(title_of(spec)) == 200


@pytest.mark.parametrize(
    "spec, title",
    [
        (TaskSpec(title="  Two\n lines "), "Two lines"),
        (TaskSpec(prompt="Do it"), "Do it"),
        (TaskSpec(command="make"), "make"),
        (TaskSpec(title="WIP: [WIP] draft: done"), "done"),
        (TaskSpec(title="\x00"), "Work of a task"),
        (TaskSpec(title="Tidy, closes #12"), "Tidy, closes # 12"),
        (TaskSpec(title="fixes a/b#12, GH-3 and !4"), "fixes a/b# 12, GH- 3 and ! 4"),
        (TaskSpec(title="closes https://f.example.org/a/b/issues/1"), "closes https: //f.example.org/a/b/issues/1"),
        (TaskSpec(title="cc @everybody (@a/team)"), "cc @ everybody (@ a/team)"),
        (TaskSpec(title="Ask me@example.org! Not C# or #"), "Ask me@example.org! Not C# or #"),
        (TaskSpec(title="#1" * 100), f"{'# 1' * 65}# ..."),
    ],
)
def test_the_title_is_one_line_and_no_draft_by_chance(spec: TaskSpec, title: str) -> None:
    assert title_of(spec) == title

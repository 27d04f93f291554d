"""Promises of :mod:`agentcom.cli.story`."""

from typing import Any

import msgspec
import pytest
from msgspec import structs

from agentcom.cli import story
from protocol.api import Explanation, HostExplanation, TaskView
from protocol.choice import Choice, Effort, Estimate, Rung
from protocol.model import AgentState, Candidate, Finding, Strategy, Tier, TierDecision, Usage
from protocol.prices import Bill, Price, read_price
from tests.unit.agentcom.conftest import view

FINDINGS = [
    {"name": "pytest -q", "type": "test_passes", "passed": False, "detail": "exit code 1", "output": "a\n1 failed\n"},
    {"name": "", "type": "git_clean", "passed": True},
]
ITERATION = {"number": 1, "execution_ok": True, "passed": False, "findings": FINDINGS, "usage": {"seconds": 1.5}}


def task(**over: Any) -> TaskView:
    return msgspec.convert(view(**over), TaskView, strict=False)


@pytest.mark.parametrize(
    "state, verified, is_good",
    [("completed", True, True), ("completed", None, True), ("completed", False, False), ("failed", None, False)],
)
def test_only_completed_and_not_failed_by_checks_is_good(state: str, verified: bool | None, is_good: bool) -> None:
    assert story.is_good(task(state=state, verified=verified)) is is_good


def test_a_failed_task_tells_what_failed_what_passed_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    attempt = {
        "epoch": 1,
        "agent": "Boo",
        "host": "h",
        "state": "failed",
        "accepted": True,
        "assigned_at": "2026-01-01T00:00:00Z",
    }
    result = {"execution_ok": True, "verified": False, "output": "line\n" * 30, "error": "checks fail", "branch": "b/1"}
    story.tell(
        task(
            state="dead",
            verified=False,
            agent="Boo",
            attempts=[attempt],
            iterations=[ITERATION],
            result=result,
            usage={"model": "m", "endpoint": "e", "input_tokens": 1200, "output_tokens": 5, "cost_usd": None},
        )
    )

    said = capsys.readouterr()
    for words in (
        "result  not verified",
        "agent   Boo on h",
        "cost    m on e, 1,200 tokens in, 5 out, unknown price",
        "iteration 1: done, checks failed, 1.50 s",
        "FAILED  pytest -q: exit code 1",
        "| 1 failed",
        "passed  git_clean",
        "error   checks fail",
        "output (the last 20 lines)",
    ):
        assert words in said.out
    assert "agentcom tasks retry" in said.err


def test_a_task_that_is_not_final_names_the_command_that_explains_it(capsys: pytest.CaptureFixture[str]) -> None:
    story.tell(task(state="queued"))

    assert "agentcom tasks explain" in capsys.readouterr().err


def test_words_of_tasks_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    result = {"execution_ok": True, "verified": None, "output": "\x1b[31mred"}
    story.tell(task(title="a\x1b[2Jb", state="completed", result=result))

    assert "\x1b" not in capsys.readouterr().out


def test_work_without_a_model_says_so() -> None:
    assert story.cost(Usage()) == "no model, 0 tokens"
    assert story.cost(Usage(model="m", input_tokens=1, cost_usd=0.5)) == "m, 1 tokens in, 0 out, $0.5000"


def test_a_failed_check_shows_enough_of_its_output_to_see_the_assertion() -> None:
    output = "\n".join(f"line {number}" for number in range(40))
    lines = list(story.finding_lines(Finding(name="pytest", type="test_passes", passed=False, output=output)))

    assert [line.strip() for line in lines[1:]] == [f"| line {number}" for number in range(28, 40)]


@pytest.mark.parametrize(
    "state, summary, line",
    [
        ("dead", "it is dead: exit code 3", "T is dead: exit code 3"),
        ("dead", "it is dead", "T is dead"),
        ("cancelled", "it is cancelled: cancelled", "T is cancelled"),
        ("cancelled", "it is cancelled: not needed", "T is cancelled: not needed"),
        ("running", "it is running on Boo", "T is running on Boo"),
        ("queued", "it is about to be assigned", "T is queued: it is about to be assigned"),
        ("queued", "no agent is online", "T is queued: no agent is online"),
        ("queued", "", "T is queued"),
    ],
)
def test_where_a_task_stands_is_said_once(state: str, summary: str, line: str) -> None:
    facts = {"task": "T", "state": state, "summary": summary, "unblock": (), "position": None, "agents": ()}
    found = msgspec.convert(facts | {"routing": view()["routing"]}, Explanation)

    assert story.standing(found) == line


@pytest.mark.parametrize(
    "reasons, line", [((), "yes trivial Boo"), (("",), "yes trivial Boo"), (("a", "b"), "yes trivial Boo: a; b")]
)
def test_a_way_without_reasons_ends_with_its_name(reasons: tuple[str, ...], line: str) -> None:
    way = Candidate(strategy=Strategy.TRIVIAL, agent="Boo", feasible=True, reasons=reasons)

    assert story.way_line(way) == line


def test_a_way_that_was_weighed_ends_with_its_cost() -> None:
    cost = {"wait_s": 5.0, "decode_s": 2.04, "total_s": 8.54}
    way = Candidate(strategy=Strategy.LOCAL_LLM, agent="Boo", model="m", feasible=True, cost=cost)

    assert story.way_line(way) == "yes local_llm Boo m: 8.5 s (wait 5.0, decode 2.0)"


@pytest.mark.parametrize(
    "position, starts_in_s, line",
    [
        (0, None, "first in the queue"),
        (3, None, "3 go first"),
        (0, 0.0, "first in the queue; it will probably begin at once"),
        (12, 90.0, "12 go first; it will probably begin in 1m30s"),
    ],
)
def test_the_place_in_the_queue_says_when_it_begins_if_anybody_knows(
    position: int, starts_in_s: float | None, line: str
) -> None:
    facts = {"task": "T", "state": "queued", "summary": "", "unblock": (), "agents": (), "routing": view()["routing"]}
    found = msgspec.convert({**facts, "position": position, "starts_in_s": starts_in_s}, Explanation)

    assert story.place_words(found) == line


@pytest.mark.parametrize(
    "reasons, cost, line",
    [
        ((), {}, "could take it"),
        ((), {"total_s": 0.0}, "could take it: 0.0 s"),
        ((), {"load_s": 4.0, "total_s": 4.0}, "could take it: 4.0 s (load 4.0)"),
        (("is offline", ""), {"total_s": 4.0}, "is offline"),
    ],
)
def test_an_agent_says_what_keeps_it_from_a_task_or_what_it_costs_there(
    reasons: tuple[str, ...], cost: dict[str, float], line: str
) -> None:
    agent = HostExplanation(agent="Boo", host="h", state=AgentState.IDLE, reasons=reasons, cost=cost)

    assert story.agent_words(agent) == line


def test_the_tier_says_who_has_named_it_and_what_it_looks_like() -> None:
    looks = TierDecision(
        explicit=None, inferred=Tier.STANDARD, effective=Tier.STANDARD, confidence=0.65, signals=("5 files",)
    )
    said = structs.replace(
        looks, explicit=Tier.COMPLEX, effective=Tier.COMPLEX, confidence=1.0, inferred_confidence=0.65
    )

    assert story.tier_words(looks) == "standard by its looks (65% sure: 5 files)"
    assert story.tier_words(said) == "complex, although it looks standard (65% sure: 5 files)"
    same = structs.replace(said, inferred=Tier.COMPLEX)
    assert story.tier_words(same) == "complex, as it looks too (65% sure: 5 files)"


def test_a_rung_and_what_was_learnt_are_told() -> None:
    rung = Rung(number=2, tier="complex", model="claude", effort=Effort.HIGH)
    estimate = Estimate(model="small", strategy="local_llm", success=0.8, seconds=60.0, usd=0.0, outcomes=12.0)
    learnt = Choice(mode="shadow", topic="chat/standard/any", model="small", estimates=(estimate,))

    assert story.rung_words(None) == ""
    assert story.rung_words(rung) == "rung 2: claude, tier complex, high effort"
    assert list(story.estimate_lines(None)) == []
    assert list(story.estimate_lines(learnt)) == [
        "learnt about chat/standard/any (it only looks on): small",
        "  small: passes 80%, 60 s and $0.0000 to a verified result (12 outcomes)",
    ]


def test_the_price_is_told_with_its_source_and_what_was_measured() -> None:
    hosted = Bill(price=read_price("m=0.5/1.5@2025-11-01"))
    local = Bill(price=Price(gpu_hour_usd=2.0, source="the hub's settings"), gpu_s=4.0, energy_wh=0.25)

    assert story.priced_by(Usage()) == ""
    assert story.priced_by(Usage(bill=hosted)) == (
        "$0.5 in, $1.5 out a million tokens; by the hub's settings, 2025-11-01"
    )
    assert story.priced_by(Usage(bill=local)) == (
        "$2 a GPU hour; by the hub's settings; took 4.00 s of a server of ours, 0.250 Wh"
    )

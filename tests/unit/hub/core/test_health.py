"""Health of LLM endpoints: one table, and every thing that is seen leads where the table says."""

import pytest
from msgspec.structs import replace

from hub.core.health import (
    FIRST_COOLDOWN_S,
    LONGEST_ASKED_S,
    LONGEST_COOLDOWN_S,
    TRIAL_S,
    Health,
    answered,
    passed,
    refused,
    silent,
    succeeded,
)
from protocol.endpoints import EndpointState

NOW = 1_000_000
WELL = answered(Health(), NOW)


def cooling(retry_after_s: float | None = 10.0) -> Health:
    return refused(WELL, NOW, "HTTP 429", retry_after_s=retry_after_s)


def test_one_silence_is_enough_to_be_offline_and_one_answer_to_be_back() -> None:
    gone = silent(WELL, NOW + 1, "connection refused")
    back = answered(gone, NOW + 2)

    assert (gone.state, gone.since_ms, gone.problem, gone.takes_work) == (
        "offline",
        NOW + 1,
        "connection refused",
        False,
    )
    assert (back.state, back.since_ms, back.problem, back.takes_work) == ("online", NOW + 2, "", True)


def test_a_state_begins_when_it_was_entered_not_when_it_was_last_seen() -> None:
    still = answered(answered(WELL, NOW + 5), NOW + 9)

    assert (still.since_ms, still.checked_ms) == (NOW, NOW + 9)


@pytest.mark.parametrize(
    "asked_s, wait_s", [(10.0, 10.0), (0.0, 0.0), (1e9, LONGEST_ASKED_S), (-4.0, 0.0), (float("nan"), 0.0)]
)
def test_a_cooldown_lasts_as_long_as_the_endpoint_asks_for_within_reason(asked_s: float, wait_s: float) -> None:
    assert cooling(asked_s).until_ms == NOW + wait_s * 1000


def test_without_a_wish_cooldowns_double_up_to_a_ceiling() -> None:
    health, waits = WELL, []
    for _ in range(9):
        health = refused(health, NOW, "HTTP 500")
        assert health.until_ms is not None
        waits.append((health.until_ms - NOW) / 1000)
        health = replace(health, state=EndpointState.HALF_OPEN)

    assert waits[:3] == [FIRST_COOLDOWN_S, 2 * FIRST_COOLDOWN_S, 4 * FIRST_COOLDOWN_S]
    assert waits[-1] == LONGEST_COOLDOWN_S


def test_jitter_only_makes_a_cooldown_longer() -> None:
    health = refused(WELL, NOW, "HTTP 429", retry_after_s=100.0, chance=0.999)

    assert health.until_ms is not None
    assert NOW + 100_000 < health.until_ms < NOW + 125_000


def test_after_a_cooldown_one_success_is_enough_and_one_refusal_begins_the_next() -> None:
    cold = cooling()
    assert not cold.takes_work
    assert passed(cold, NOW + 9_999) is cold
    trial = passed(cold, NOW + 10_000)

    assert trial.takes_work
    assert trial.is_on_trial
    assert succeeded(trial, NOW + 10_500) == replace(WELL, since_ms=NOW + 10_500)
    again = refused(trial, NOW + 10_500, "HTTP 429")
    assert (again.state, again.refusals, again.until_ms) == ("cooldown", 2, NOW + 20_500)


def test_an_answer_to_a_question_ends_no_cooldown() -> None:
    assert answered(cooling(), NOW + 1).state == "cooldown"
    assert answered(passed(cooling(), NOW + 10_000), NOW + 10_001).state == "half_open"


def test_work_that_was_begun_before_a_cooldown_does_not_end_it() -> None:
    assert succeeded(cooling(), NOW + 1) == cooling()


def test_of_several_refusals_the_longest_wish_counts() -> None:
    assert refused(cooling(60.0), NOW + 1, "HTTP 429", retry_after_s=1.0).until_ms == NOW + 60_000


def test_an_endpoint_that_dies_in_its_cooldown_cools_down_when_it_is_back() -> None:
    gone = silent(cooling(), NOW + 1, "gone")

    assert gone.state == "offline"
    assert answered(gone, NOW + 5_000).state == "cooldown"
    assert answered(gone, NOW + 10_001).state == "online"


def test_a_trial_without_any_work_ends_well_in_the_end() -> None:
    trial = passed(cooling(), NOW + 10_000)
    after_s = passed(trial, NOW + 10_000 + int(TRIAL_S * 1000))

    assert (after_s.state, after_s.refusals, after_s.until_ms) == ("online", 0, None)


def test_an_odd_answer_is_told_and_does_no_harm() -> None:
    odd = answered(WELL, NOW + 1, "lists 10,000 models; the first 500 count")

    assert odd.takes_work
    assert odd.problem.startswith("lists 10,000")
    assert answered(odd, NOW + 2).problem == ""


def test_a_long_explanation_is_cut() -> None:
    assert len(silent(WELL, NOW, "x" * 10_000).problem) == 300

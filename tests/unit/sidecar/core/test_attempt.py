"""The promises of attempt states and leases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import IllegalTransition
from protocol.model import AttemptState
from protocol.table import allowed
from sidecar.core.attempt import ATTEMPT_EDGES, ENDED, Standing, after, step, stop_at

RANK = {state: place for place, state in enumerate(AttemptState)}


@given(st.lists(st.integers(min_value=0, max_value=10), max_size=30))
def test_an_attempt_only_moves_forward(choices: list[int]) -> None:
    standing = Standing()
    for choice in choices:
        events = allowed(ATTEMPT_EDGES, standing.state)
        if not events:
            break
        before, standing = standing, step(standing, events[choice % len(events)])

        assert (standing.iteration, RANK[standing.state]) > (before.iteration, RANK[before.state])


def test_a_repair_goes_back_to_running_as_the_next_iteration() -> None:
    standing = Standing()
    for event in ("accept", "start", "verify", "fix", "verify", "pass"):
        standing = step(standing, event)

    assert standing == Standing(AttemptState.PASSED, 2)
    assert standing.has_ended


@pytest.mark.parametrize("state", sorted(ENDED))
def test_an_ended_attempt_allows_nothing(state: AttemptState) -> None:
    assert allowed(ATTEMPT_EDGES, state) == ()


@pytest.mark.parametrize("state", sorted(set(AttemptState) - ENDED - {AttemptState.ASSIGNED}))
@pytest.mark.parametrize(
    "event, end", [("cancel", AttemptState.CANCELLED), ("lose", AttemptState.LOST), ("fail", AttemptState.FAILED)]
)
def test_work_can_be_stopped_at_any_time(state: AttemptState, event: str, end: AttemptState) -> None:
    assert after(state, event) is end


def test_an_attempt_cannot_pass_without_being_verified() -> None:
    with pytest.raises(IllegalTransition, match="attempt: 'pass' is not allowed in state running"):
        after(AttemptState.RUNNING, "pass")


def test_every_state_but_the_first_is_reached_by_some_event() -> None:
    assert set(ATTEMPT_EDGES.values()) == set(AttemptState) - {AttemptState.ASSIGNED}


@pytest.mark.parametrize(
    "proven_at, lease_s, margin_s, expected",
    [
        (100.0, 30.0, 5.0, 125.0),
        (100.0, 6.0, 5.0, 103.0),
        (0.0, 10.0, 5.0, 5.0),
        (float("-inf"), 30.0, 5.0, float("-inf")),
    ],
)
def test_the_child_is_stopped_before_the_lease_can_end(
    proven_at: float, lease_s: float, margin_s: float, expected: float
) -> None:
    assert stop_at(proven_at, lease_s, margin_s) == expected


@given(st.floats(0, 1e6), st.floats(0.01, 1e4), st.floats(0, 1e3))
def test_the_stop_is_never_after_the_lease(proven_at: float, lease_s: float, margin_s: float) -> None:
    assert proven_at <= stop_at(proven_at, lease_s, margin_s) <= proven_at + lease_s

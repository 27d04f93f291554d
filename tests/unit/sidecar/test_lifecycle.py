"""The promises of the sidecar's own states."""

import pytest
from structlog.testing import capture_logs

from protocol.errors import IllegalTransition
from protocol.table import allowed
from sidecar.lifecycle import SIDECAR_EDGES, Lifecycle, SidecarState


def test_the_machine_goes_where_the_table_says() -> None:
    for (state, event), target in SIDECAR_EDGES.items():
        lifecycle = Lifecycle()
        lifecycle._machine.set_state(state.value, lifecycle)

        assert lifecycle.fire(event) is target
        assert lifecycle.now is target


def test_changes_are_logged_and_staying_is_not() -> None:
    lifecycle = Lifecycle()
    with capture_logs() as lines:
        for event in ("dial", "dial", "welcome", "lose", "drain", "welcome", "stop"):
            lifecycle.fire(event)

    assert [(line["was"], line["now"]) for line in lines] == [
        ("starting", "connecting"), ("connecting", "online"), ("online", "connecting"),
        ("connecting", "draining"), ("draining", "stopping"),
    ]  # fmt: skip


def test_an_event_without_an_edge_is_refused() -> None:
    lifecycle = Lifecycle()
    with pytest.raises(IllegalTransition, match="sidecar: 'welcome' is not allowed in state starting"):
        lifecycle.fire("welcome")

    assert lifecycle.now is SidecarState.STARTING
    assert not lifecycle.may("welcome")
    assert lifecycle.may("dial")


def test_nothing_follows_stopping() -> None:
    assert allowed(SIDECAR_EDGES, SidecarState.STOPPING) == ()


def test_two_sidecars_in_one_process_have_states_of_their_own() -> None:
    one, other = Lifecycle(), Lifecycle()
    one.fire("dial")

    assert other.now is SidecarState.STARTING

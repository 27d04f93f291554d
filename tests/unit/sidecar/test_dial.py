"""The promises of one connection to the hub; the refusals over a real socket are in test_link.py."""

import pytest
from msgspec.structs import replace

from protocol.errors import HubUnreachable, MalformedFrame, ProtocolViolation, VersionMismatch
from protocol.messages import AnyMessage, Drain, Error, Welcome
from sidecar.dial import HubBusy, HubRefused, dead_after_s, mesh_url, refusal_in, welcome_in

WELCOME = Welcome(protocol=1, hub_boot=3, received=0, heartbeat_s=5, lease_s=30)


@pytest.mark.parametrize(
    "hub_url, expected",
    [
        ("http://127.0.0.1:7420", "ws://127.0.0.1:7420/mesh"),
        ("https://mesh.example/hub/", "wss://mesh.example/hub/mesh"),
        ("ws://[::1]:7", "ws://[::1]:7/mesh"),
    ],
)
def test_the_mesh_is_found_below_the_hubs_address(hub_url: str, expected: str) -> None:
    assert mesh_url(hub_url) == expected


def test_a_welcome_may_have_company() -> None:
    assert welcome_in([WELCOME, Drain(on=True, n=1)]) == WELCOME


@pytest.mark.parametrize(
    "heartbeat_s, lease_s, silence_s",
    [(5, 30, 15), (1, 30, 5), (0.2, 30, 5), (0.5, 3, 1.5), (0.2, 6, 2)],
    ids=["three heartbeats", "but some seconds", "however fast they are", "of a short lease", "no more than a third"],
)
def test_a_hub_is_not_given_up_for_a_moment_of_silence(heartbeat_s: float, lease_s: float, silence_s: float) -> None:
    assert dead_after_s(replace(WELCOME, heartbeat_s=heartbeat_s, lease_s=lease_s)) == silence_s


@pytest.mark.parametrize(
    "messages, error",
    [
        ([], MalformedFrame),
        ([Drain(on=True, n=1), WELCOME], ProtocolViolation),
        ([Welcome(protocol=7, hub_boot=3, received=0, heartbeat_s=5, lease_s=30)], VersionMismatch),
        ([Error(code="forbidden", detail="no", fatal=True)], HubRefused),
        ([Error(code="store_failed", detail="no", fatal=True)], HubUnreachable),
    ],
)
def test_anything_else_is_told_apart(messages: list[AnyMessage], error: type[Exception]) -> None:
    with pytest.raises(error):
        welcome_in(messages)


@pytest.mark.parametrize(
    "code, error",
    [
        ("version_mismatch", HubRefused),
        ("unauthenticated", HubRefused),
        ("forbidden", HubRefused),
        ("evicted", HubRefused),
        ("protocol_violation", ProtocolViolation),
        ("malformed_frame", HubUnreachable),
    ],
)
def test_a_fatal_error_is_hopeless_or_not(code: str, error: type[Exception]) -> None:
    assert type(refusal_in(Error(code=code, detail="why", fatal=True))) is error


def test_a_refusal_says_why() -> None:
    assert str(HubRefused("forbidden", "no")) == "the hub refuses this sidecar (forbidden): no"


def test_who_is_kept_away_comes_back_when_it_was_told_to() -> None:
    told = Error(code="throttled", detail="Odd has not kept to the protocol", fatal=True, retry_after_s=7.5)

    refused = refusal_in(told)

    assert isinstance(refused, HubBusy)
    assert refused.retry_after_s == 7.5
    assert "has not kept to the protocol and asks to come back in 7.5 s" in str(refused)


def test_no_hub_keeps_a_sidecar_away_for_longer_than_a_minute() -> None:
    refused = refusal_in(Error(code="throttled", detail="no", fatal=True, retry_after_s=1e9))

    assert isinstance(refused, HubBusy)
    assert refused.retry_after_s == 60.0

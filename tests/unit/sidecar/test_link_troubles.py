"""The promises of the line to the hub when the hub is away, silent, wrong, or says no."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from protocol import codec
from protocol.errors import VersionMismatch
from protocol.messages import (
    Ack,
    Drain,
    Error,
    Heartbeat,
    Message,
    Report,
)
from sidecar.clock import SystemClock
from sidecar.dial import HubRefused
from sidecar.link import Link
from tests.support.hub_server import HubServer
from tests.support.links import ME, PACE, Notebook, assign, attempt, make_link, report, running


@pytest.fixture
async def hub() -> AsyncIterator[HubServer]:
    server = HubServer()
    await server.start()
    yield server
    await server.stop()


async def test_a_silent_hub_is_left_and_dialled_again(hub: HubServer) -> None:
    hub.lease_s = 0.6  # of a long one it would be five seconds
    link = make_link(hub)
    with capture_logs() as lines:
        async with running(link, Notebook()):
            await hub.until(lambda: hub.heartbeats)
            hub.is_silent = True
            await hub.until(lambda: hub.dials >= 2)
            await hub.speak()
            await hub.until(lambda: len(hub.hellos) >= 2)

    lost = next(line for line in lines if line["event"] == "hub_lost")

    assert "silent for 0.2 s" in lost["why"]


async def test_all_work_stops_before_the_lease_of_a_silent_hub_can_end(hub: HubServer) -> None:
    hub.lease_s = 0.6
    link = make_link(hub)
    owner = Notebook()
    loop = asyncio.get_running_loop()
    async with running(link, owner):
        seen = len(hub.heartbeats)
        await hub.until(lambda: len(hub.heartbeats) > seen + 8)  # for longer than one lease: it is renewed

        assert not owner.fenced.is_set()

        hub.is_silent = True
        silent_at = loop.time()
        await owner.fenced.wait()
        fenced_after_s = loop.time() - silent_at

    assert fenced_after_s < hub.lease_s


async def test_an_unreachable_hub_is_told_once_and_tried_for_ever(hub: HubServer) -> None:
    await hub.stop()
    events: asyncio.Queue[str] = asyncio.Queue()
    link = Link(
        hub.url, lambda: "acm_good", ME, clock=SystemClock(), chance=lambda: 0.5, pace=PACE, on_event=events.put_nowait
    )
    with capture_logs() as lines:
        async with running(link, Notebook()):
            heard = [await events.get() for _ in range(5)]
            await hub.start()
            await link.online.wait()

    assert heard == ["dial"] * 5
    assert [line["event"] for line in lines] == ["hub_unreachable", "hub_welcomed"]


@pytest.mark.parametrize("status, reason", [(401, "unauthenticated"), (403, "forbidden")])
async def test_a_token_that_was_never_good_ends_the_link(hub: HubServer, status: int, reason: str) -> None:
    hub.status = status
    with pytest.raises(HubRefused) as caught:
        await make_link(hub).run(Notebook())

    assert caught.value.reason == reason


async def test_a_token_that_was_good_is_tried_again_slowly(hub: HubServer) -> None:
    link = make_link(hub)
    with capture_logs() as lines:
        async with running(link, Notebook()):
            await link.online.wait()
            hub.status = 401
            seen = hub.dials
            hub.cut()
            await hub.until(lambda: hub.dials >= seen + 3)
            hub.status = 0
            await hub.until(lambda: len(hub.hellos) == 2)

    assert [line["event"] for line in lines].count("hub_refused") == 1


async def test_something_that_is_no_hub_is_named(hub: HubServer) -> None:
    hub.status = 404
    with capture_logs() as lines:
        async with running(make_link(hub), Notebook()):
            await hub.until(lambda: hub.dials >= 2)

    assert "answers 404 at /mesh; is that address a hub?" in lines[0]["why"]


@pytest.mark.parametrize("reason", ["version_mismatch", "evicted", "unauthenticated"])
async def test_a_hub_that_will_never_take_us_ends_the_link(hub: HubServer, reason: str) -> None:
    hub.first = Error(code=reason, detail="the reason", fatal=True)
    with pytest.raises(HubRefused, match=rf"the hub refuses this sidecar \({reason}\): the reason"):
        await make_link(hub).run(Notebook())


async def test_a_protocol_that_we_do_not_speak_ends_the_link(hub: HubServer) -> None:
    hub.protocol = 9
    with pytest.raises(VersionMismatch, match="we speak 1 to 1, the peer speaks 9 to 9; upgrade this side"):
        await make_link(hub).run(Notebook())


@pytest.mark.parametrize(
    "first, why",
    [
        (Drain(on=True), "expected welcome, found Drain"),
        (Error(code="store_failed", detail="disk", fatal=True), "it ended the connection: store_failed, disk"),
    ],
)
async def test_another_first_word_is_answered_by_dialling_again(hub: HubServer, first: Message, why: str) -> None:
    hub.first = first
    with capture_logs() as lines:
        async with running(make_link(hub), Notebook()):
            await hub.until(lambda: len(hub.hellos) >= 3)

    assert why in lines[0]["why"]


@pytest.mark.parametrize(
    "frame, why",
    [
        (b"\xc1", "frame has 1 problem"),
        (b"\x90", ""),
        (codec.encode(Heartbeat(sidecar="X", boot=1)), "expected a message of a hub, found Heartbeat"),
        (codec.encode(Drain(on=True, n=5)), "expected message 1, found message 5"),
        (codec.encode(Error(code="restart", detail="soon", fatal=True)), "it ended the connection: restart, soon"),
    ],
    ids=["no MessagePack", "an empty array", "a sidecar's message", "a gap", "a fatal error"],
)
async def test_nonsense_from_the_hub_breaks_the_line_and_nothing_else(hub: HubServer, frame: bytes, why: str) -> None:
    link = make_link(hub)
    with capture_logs() as lines:
        async with running(link, Notebook()):
            await link.online.wait()
            await hub.say_bytes(frame)
            if why:
                await hub.until(lambda: len(hub.hellos) >= 2)
            await hub.say(assign(1))
            await hub.until(lambda: not hub.unsent)

    assert not why or why in next(line["why"] for line in lines if line["event"] == "hub_lost")


async def test_two_ends_that_count_differently_start_again_together(hub: HubServer) -> None:
    link = make_link(hub)
    owner = Notebook()
    hub.acknowledges = False
    async with running(link, owner):
        link.send(report(1))
        await hub.until(lambda: hub.of(Report))
        await hub.say_bytes(codec.encode(Error(code="protocol_violation", detail="message 9", fatal=True)))
        hub.forget_sessions()
        hub.acknowledges = True
        await hub.until(lambda: len(hub.of(Report)) == 2)
        await hub.say(assign(2))
        await hub.until(lambda: not hub.unsent)

    assert hub.hellos[1].hub_boot == 0
    assert owner.told("assigned") == [attempt(2)]


async def test_a_report_confirmed_in_the_last_frame_of_a_hub_is_forgotten(hub: HubServer) -> None:
    link = make_link(hub)
    owner = Notebook()
    hub.acknowledges = False
    async with running(link, owner):
        link.send(report(1))
        await hub.until(lambda: hub.of(Report))
        last_words = [codec.encode(Ack(n=1)), codec.encode(Error(code="restart", detail="soon", fatal=True))]
        await hub.say_bytes(codec.frames(last_words)[0])
        await hub.until(lambda: hub.dials == 2)
        await hub.restart()
        seen = len(hub.heartbeats)
        await hub.until(lambda: len(hub.heartbeats) > seen + 1)

    assert owner.told("forget") == [attempt(1)]
    assert len(hub.of(Report)) == 1

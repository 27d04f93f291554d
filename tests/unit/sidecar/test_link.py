"""The promises of the line to the hub, against a server that speaks the real protocol over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from structlog.testing import capture_logs

from protocol.limits import LITTLE_BYTES, MAX_FRAME_BYTES, MAX_UNACKED
from protocol.messages import (
    Accept,
    Assign,
    Cancel,
    Drain,
    Error,
    HeldAttempt,
    Hello,
    Log,
    Progress,
    Report,
)
from protocol.model import AttemptState, EndpointKind, EndpointReport
from sidecar.clock import SystemClock
from sidecar.link import Link
from sidecar.outbox import MAX_LOG_WAITING_BYTES
from tests.support.hub_server import HubServer
from tests.support.links import HOST, ME, PACE, Notebook, assign, attempt, make_link, report, running


@pytest.fixture
async def hub() -> AsyncIterator[HubServer]:
    server = HubServer()
    await server.start()
    yield server
    await server.stop()


async def test_the_hello_says_who_we_are_and_what_we_hold(hub: HubServer) -> None:
    held = HeldAttempt(attempt=attempt(1), state=AttemptState.RUNNING, iteration=2)
    link = make_link(hub)
    endpoint = EndpointReport(id="local", kind=EndpointKind.OLLAMA, url="http://127.0.0.1:11434", local=True)
    link.tell(capabilities=("noop", "shell"), endpoints=(endpoint,))
    async with running(link, Notebook(held=(held,), is_leaving=True)):
        await hub.until(lambda: hub.hellos)

    assert hub.hellos[0] == Hello(
        protocol=(1, 1), sidecar="Arbitrary", boot=7, host="box", slots=2, version="0.1.0",
        capabilities=("noop", "shell"), endpoints=(endpoint,), inventory=(held,), draining=True, dial=1,
    )  # fmt: skip
    assert hub.headers[0]["Authorization"] == "Bearer acm_good"
    assert "Sec-WebSocket-Extensions" not in hub.headers[0]


async def test_messages_arrive_in_order_and_many_share_a_frame(hub: HubServer) -> None:
    link = make_link(hub)
    async with running(link, Notebook()):
        await link.online.wait()
        for number in range(50):
            link.send(Accept(attempt=attempt(number)))
        await hub.until(lambda: len(hub.received) >= 50)

    assert [message.attempt for message in hub.of(Accept)] == [attempt(number) for number in range(50)]


async def test_what_was_promised_is_written_down_before_it_leaves(hub: HubServer) -> None:
    link = make_link(hub)
    owner = Notebook()

    def accept(message: Assign) -> None:
        link.send(Accept(attempt=message.attempt))

    owner.on_assign = accept
    async with running(link, owner):
        await link.online.wait()
        await hub.say(assign(1), assign(2))
        await hub.until(lambda: len(hub.of(Accept)) == 2 and not hub.unsent)

    assert owner.heard[-3:] == [("assigned", attempt(1)), ("assigned", attempt(2)), ("commit", None)]


async def test_answers_arrive_in_order_whether_they_are_few_or_more_than_leaves_at_once(hub: HubServer) -> None:
    link = make_link(hub)
    owner = Notebook()

    def answer(message: Assign) -> None:
        for _ in range(1 if message.attempt == attempt(1) else LITTLE_BYTES // 50):
            link.send(Accept(attempt=message.attempt))

    owner.on_assign = answer
    async with running(link, owner):
        await link.online.wait()
        for number in (1, 2, 1, 2, 1):
            await hub.say(assign(number))
        await hub.until(lambda: len(hub.of(Accept)) == 3 + 2 * (LITTLE_BYTES // 50) and not hub.unsent)

    numbers = [message.n for message in hub.of(Accept)]
    assert numbers == sorted(set(numbers))


async def test_an_acknowledged_report_is_forgotten_and_not_before(hub: HubServer) -> None:
    link = make_link(hub)
    owner = Notebook()
    hub.acknowledges = False
    async with running(link, owner):
        link.send(report(1))
        await hub.until(lambda: hub.of(Report))

        assert owner.told("forget") == []
        assert link.unacknowledged_reports == 1

        await hub.acknowledge_all()
        seen = len(hub.heartbeats)
        await hub.until(lambda: len(hub.heartbeats) > seen + 1)

    assert owner.told("forget") == [attempt(1)]
    assert link.unacknowledged_reports == 0


async def quiet(owner: Notebook) -> None:
    """Until the link has nothing left to write down."""
    seen = -1
    while seen != len(owner.commits):
        seen = len(owner.commits)
        await asyncio.sleep(0.1)  # too short for a slow machine only lets a mistake pass


async def test_what_may_be_forgotten_is_written_down_though_nothing_else_happens(hub: HubServer) -> None:
    hub.heartbeat_s = 60.0
    link = make_link(hub)
    owner = Notebook()
    async with running(link, owner):
        await hub.until(lambda: hub.heartbeats)
        async with asyncio.timeout(10):
            for _ in range(2):
                await quiet(owner)
                owner.commits.clear()
                link.touch()  # as its real owner does
                while True not in owner.commits:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.01)


async def test_one_timer_is_set_for_all_that_may_be_forgotten(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.link.TIDY_S", 61.5)  # known among the timers of others
    loop = asyncio.get_running_loop()
    call_later, delays = loop.call_later, list[float]()

    def counted(delay: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        delays.append(delay)
        return call_later(delay, callback, *args)

    monkeypatch.setattr(loop, "call_later", counted)  # still sets them; a loop tells nobody how many timers it has
    link = make_link(hub)
    owner = Notebook()
    async with running(link, owner):
        await link.online.wait()
        for number in range(20):
            link.touch()
            seen = len(owner.commits)
            link.send(Accept(attempt=attempt(number)))
            await hub.until(lambda number=number: len(hub.of(Accept)) > number)
            assert len(owner.commits) > seen

    assert delays.count(61.5) == 1


async def test_a_cut_line_is_dialled_again_and_everything_arrives_once(hub: HubServer) -> None:
    link = make_link(hub)
    owner = Notebook()
    async with running(link, owner):
        await link.online.wait()
        for number in range(30):
            link.send(Progress(attempt=attempt(number), state=AttemptState.RUNNING))
            if number % 10 == 5:
                seen = len(hub.hellos)
                hub.cut()
                await hub.until(lambda seen=seen: len(hub.hellos) > seen)
        await hub.until(lambda: len(hub.of(Progress)) >= 30)
        await hub.say(assign(1))
        await hub.until(lambda: not hub.unsent)

    assert [message.attempt for message in hub.of(Progress)] == [attempt(number) for number in range(30)]
    assert owner.told("assigned") == [attempt(1)]
    assert all(hello.hub_boot == hub.boot for hello in hub.hellos[1:])


async def test_a_message_that_the_line_lost_comes_again_from_the_hub_once(hub: HubServer) -> None:
    link = make_link(hub)
    owner = Notebook()
    async with running(link, owner):
        await link.online.wait()
        for number in range(5):
            await hub.say(assign(number))
            seen = len(hub.hellos)
            hub.cut()
            await hub.until(lambda seen=seen: len(hub.hellos) > seen)
        await hub.until(lambda: not hub.unsent)

    assert owner.told("assigned") == [attempt(number) for number in range(5)]


async def test_a_hub_that_restarted_gets_what_the_old_one_had_not_acknowledged(hub: HubServer) -> None:
    link = make_link(hub)
    owner = Notebook()
    async with running(link, owner):
        link.send(Accept(attempt=attempt(1)))
        await hub.until(lambda: hub.of(Accept))
        seen = len(hub.heartbeats)
        await hub.until(lambda: len(hub.heartbeats) > seen + 1)  # the acknowledgement of the first has come
        hub.acknowledges = False
        link.send(report(1))
        await hub.until(lambda: hub.of(Report))
        hub.acknowledges = True
        await hub.restart()
        await hub.until(lambda: len(hub.of(Report)) == 2)
        await hub.say(assign(2))
        await hub.until(lambda: not hub.unsent)
        seen = len(hub.heartbeats)
        await hub.until(lambda: len(hub.heartbeats) > seen + 1)

    assert len(hub.of(Accept)) == 1
    assert owner.told("forget") == [attempt(1)]
    assert owner.told("assigned") == [attempt(2)]
    assert hub.hellos[0].hub_boot == 0


async def test_verdicts_decide_over_the_inventory(hub: HubServer) -> None:
    held = tuple(HeldAttempt(attempt=attempt(number), state=AttemptState.RUNNING) for number in (1, 2, 3))
    verdicts = {attempt(1): "keep", attempt(2): "stop", attempt(3): "unknown"}
    hub.verdict = lambda item: verdicts[item.attempt]
    owner = Notebook(held=held)
    link = make_link(hub)
    async with running(link, owner):
        await hub.until(lambda: hub.heartbeats)

    assert owner.told("forget") == [attempt(2), attempt(3)]


async def test_a_stale_answer_is_the_end_of_an_attempt_and_another_error_is_not(hub: HubServer) -> None:
    link = make_link(hub)
    owner = Notebook()
    with capture_logs() as lines:
        async with running(link, owner):
            await link.online.wait()
            await hub.say(Error(code="bad_input", detail="odd", attempt=attempt(1)))
            await hub.say(Error(code="stale", detail="moved on", attempt=attempt(2)))
            await hub.say(Drain(on=True), Cancel(attempt=attempt(3), reason="asked"))
            await hub.until(lambda: not hub.unsent)

    assert owner.told("forget") == [attempt(2)]
    assert owner.told("drain") == [False, True]
    assert owner.told("cancelled") == [attempt(3)]
    assert "hub_error" in [line["event"] for line in lines]


async def test_heartbeats_tell_resources_and_changes_once(hub: HubServer) -> None:
    link = make_link(hub)
    async with running(link, Notebook()):
        await hub.until(lambda: hub.heartbeats)
        link.tell(reading=HOST, capabilities=("noop", "gpu"))
        await hub.until(lambda: any(beat.reading for beat in hub.heartbeats))
        seen = len(hub.heartbeats)
        await hub.until(lambda: len(hub.heartbeats) >= seen + 2)

    assert [beat.capabilities for beat in hub.heartbeats if beat.capabilities] == [("noop", "gpu")]
    assert [beat.reading for beat in hub.heartbeats if beat.reading] == [HOST]


async def test_a_change_does_not_wait_for_the_next_heartbeat(hub: HubServer) -> None:
    hub.heartbeat_s = 60.0
    link = make_link(hub)
    owner = Notebook()
    async with running(link, owner):
        await hub.until(lambda: hub.heartbeats)
        link.tell(capabilities=("gpu",))
        await hub.until(lambda: len(hub.heartbeats) == 2)
        owner.is_leaving = True
        link.beat()
        await hub.until(lambda: len(hub.heartbeats) == 3)

    assert [beat.draining for beat in hub.heartbeats] == [False, False, True]


async def test_live_output_has_bounded_room_until_it_is_acknowledged(hub: HubServer) -> None:
    link = make_link(hub)
    assert link.log_room == MAX_LOG_WAITING_BYTES == MAX_FRAME_BYTES // 4

    for number in range(8):
        link.send(Log(attempt=attempt(1), offset=number * 32_768, stream="stdout", text="x" * 32_768))

    assert link.log_room == 0

    async with running(link, Notebook()):
        await hub.until(lambda: len(hub.of(Log)) == 8)
        seen = len(hub.heartbeats)
        await hub.until(lambda: len(hub.heartbeats) > seen + 1)

    assert link.log_room == MAX_LOG_WAITING_BYTES


async def test_more_than_a_session_keeps_is_kept_back_and_sent_later(hub: HubServer) -> None:
    hub.heartbeat_s, hub.acknowledges = 60.0, False  # nothing but room for it sends it
    link = make_link(hub)
    count = MAX_UNACKED + 50
    for number in range(count):
        link.send(report(number))

    assert link.log_room == 0
    assert link.unacknowledged_reports == count

    owner = Notebook()
    async with running(link, owner):
        await hub.until(lambda: len(hub.of(Report)) == MAX_UNACKED)
        await quiet(owner)
        await hub.acknowledge_all()
        await hub.until(lambda: len(hub.of(Report)) == count)
        await hub.acknowledge_all()
        await link.delivered()

    assert [message.attempt for message in hub.of(Report)] == [attempt(number) for number in range(count)]
    assert len(owner.told("forget")) == count


async def test_the_hubs_drain_comes_with_the_welcome(hub: HubServer) -> None:
    hub.draining = True
    owner = Notebook()
    async with running(make_link(hub), owner):
        await hub.until(lambda: hub.heartbeats)

    assert owner.told("drain") == [True]


async def test_when_a_hub_is_lost_the_next_one_is_told_everything_that_was_not_acknowledged(hub: HubServer) -> None:
    other = HubServer(boot=2)
    await other.start()
    hub.acknowledges = False
    link = Link([hub.url, other.url], lambda: "acm_good", ME, clock=SystemClock(), chance=lambda: 0.5, pace=PACE)
    async with running(link, Notebook()):
        await hub.until(lambda: hub.hellos)
        link.send(report(1))
        await hub.until(lambda: hub.of(Report))
        await hub.stop()
        await other.until(lambda: other.of(Report))
        await link.delivered()

    assert [found.attempt for found in other.of(Report)] == [attempt(1)]
    assert [(hello.hub_boot, hello.dial) for hello in other.hellos] == [(1, 2)]
    await other.stop()


async def test_a_hub_that_refuses_the_token_does_not_keep_us_from_another(hub: HubServer) -> None:
    strict = HubServer(token="acm_other")
    await strict.start()
    link = Link([strict.url, hub.url], lambda: "acm_good", ME, clock=SystemClock(), chance=lambda: 0.5, pace=PACE)
    async with running(link, Notebook()):
        await hub.until(lambda: hub.hellos)

    assert (strict.dials, len(strict.hellos)) == (1, 0)
    await strict.stop()

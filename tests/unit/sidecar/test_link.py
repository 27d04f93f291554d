"""The promises of the line to the hub, against a server that speaks the real protocol over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from msgspec import Raw
from structlog.testing import capture_logs

from protocol import codec
from protocol.errors import VersionMismatch
from protocol.limits import MAX_FRAME_BYTES, MAX_UNACKED
from protocol.messages import (
    Accept,
    Assign,
    Cancel,
    Drain,
    Error,
    Heartbeat,
    HeldAttempt,
    Hello,
    Log,
    Message,
    Progress,
    Report,
)
from protocol.model import (
    AttemptId,
    AttemptState,
    CpuReport,
    EndpointKind,
    EndpointReport,
    HostReport,
    Routing,
    SpaceReport,
    TaskResult,
    TaskSpec,
    Tier,
    TierDecision,
)
from sidecar.clock import SystemClock
from sidecar.dial import HubRefused, Pace
from sidecar.link import MAX_LOG_WAITING_BYTES, Identity, Link
from tests.support.hub_server import HubServer

ME = Identity(sidecar="Arbitrary", boot=7, host="box", slots=2, version="0.1.0")
PACE = Pace(first_s=0.02, cap_s=0.05, settled_s=0.2, refused_s=0.05, handshake_s=1.0, watch_s=0.02)
ROUTING = Routing(
    tier=TierDecision(explicit=None, inferred=Tier.TRIVIAL, effective=Tier.TRIVIAL, confidence=1, signals=())
)
HOST = HostReport(
    cpu=CpuReport(percent=1, cores=2),
    ram=SpaceReport(total_bytes=2, used_bytes=1),
    disk=SpaceReport(total_bytes=2, used_bytes=1),
    at=datetime(2026, 1, 1, tzinfo=UTC),
)


def attempt(number: int) -> AttemptId:
    return AttemptId("Arbitrary", 7, f"{number:026}", 1)


def assign(number: int) -> Assign:
    return Assign(
        attempt=attempt(number), spec=Raw(codec.encode_spec(TaskSpec(title="x"))), routing=ROUTING, lease_s=30
    )


def report(number: int) -> Report:
    result = TaskResult(execution_ok=True, verified=None)
    return Report(attempt=attempt(number), state=AttemptState.PASSED, result=result)


@dataclass
class Notebook:
    """An owner that writes down what it is told, in order."""

    is_leaving: bool = False
    held: tuple[HeldAttempt, ...] = ()
    heard: list[tuple[str, object]] = field(default_factory=list)
    fenced: asyncio.Event = field(default_factory=asyncio.Event)
    on_assign: Callable[[Assign], None] = lambda _message: None

    def inventory(self) -> tuple[HeldAttempt, ...]:
        return self.held

    def assigned(self, message: Assign) -> None:
        self.heard.append(("assigned", message.attempt))
        self.on_assign(message)

    def cancelled(self, message: Cancel) -> None:
        self.heard.append(("cancelled", message.attempt))

    def forget(self, attempt: AttemptId) -> None:
        self.heard.append(("forget", attempt))

    def drain(self, *, on: bool) -> None:
        self.heard.append(("drain", on))

    def fence(self) -> None:
        self.fenced.set()

    def commit(self) -> None:
        if self.heard and self.heard[-1][0] != "commit":
            self.heard.append(("commit", None))

    def told(self, what: str) -> list[object]:
        return [fact for kind, fact in self.heard if kind == what]


@pytest.fixture
async def hub() -> AsyncIterator[HubServer]:
    server = HubServer()
    await server.start()
    yield server
    await server.stop()


def make_link(hub: HubServer) -> Link:
    return Link(hub.url, lambda: "acm_good", ME, clock=SystemClock(), chance=lambda: 0.5, pace=PACE)


@asynccontextmanager
async def running(link: Link, owner: Notebook) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(link.run(owner))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_hello_says_who_we_are_and_what_we_hold(hub: HubServer) -> None:
    held = HeldAttempt(attempt=attempt(1), state=AttemptState.RUNNING, iteration=2)
    link = make_link(hub)
    endpoint = EndpointReport(id="local", kind=EndpointKind.OLLAMA, url="http://127.0.0.1:11434", local=True)
    link.tell(capabilities=("noop", "shell"), endpoints=(endpoint,))
    async with running(link, Notebook(held=(held,), is_leaving=True)):
        await hub.until(lambda: hub.hellos)

    assert hub.hellos[0] == Hello(
        protocol=(1, 1), sidecar="Arbitrary", boot=7, host="box", slots=2, version="0.1.0",
        capabilities=("noop", "shell"), endpoints=(endpoint,), inventory=(held,), draining=True,
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
        link.tell(host=HOST, capabilities=("noop", "gpu"))
        await hub.until(lambda: any(beat.host for beat in hub.heartbeats))
        seen = len(hub.heartbeats)
        await hub.until(lambda: len(hub.heartbeats) >= seen + 2)

    assert [beat.capabilities for beat in hub.heartbeats if beat.capabilities] == [("noop", "gpu")]
    assert [beat.host for beat in hub.heartbeats if beat.host] == [HOST]


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


async def test_a_silent_hub_is_left_and_dialled_again(hub: HubServer) -> None:
    link = make_link(hub)
    with capture_logs() as lines:
        async with running(link, Notebook()):
            await hub.until(lambda: hub.heartbeats)
            hub.is_silent = True
            await hub.until(lambda: hub.dials >= 2)
            await hub.speak()
            await hub.until(lambda: len(hub.hellos) >= 2)

    lost = next(line for line in lines if line["event"] == "hub_lost")

    assert "silent for 0.15 s" in lost["why"]


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


async def test_live_output_has_bounded_room_until_it_is_acknowledged(hub: HubServer) -> None:
    link = make_link(hub)
    assert link.log_room == MAX_LOG_WAITING_BYTES == MAX_FRAME_BYTES

    for number in range(32):
        link.send(Log(attempt=attempt(1), offset=number * 32_768, stream="stdout", text="x" * 32_768))

    assert link.log_room == 0

    async with running(link, Notebook()):
        await hub.until(lambda: len(hub.of(Log)) == 32)
        seen = len(hub.heartbeats)
        await hub.until(lambda: len(hub.heartbeats) > seen + 1)

    assert link.log_room == MAX_LOG_WAITING_BYTES


async def test_more_than_a_session_keeps_is_kept_back_and_sent_later(hub: HubServer) -> None:
    link = make_link(hub)
    count = MAX_UNACKED + 50
    for number in range(count):
        link.send(report(number))

    assert link.log_room == 0
    assert link.unacknowledged_reports == count

    owner = Notebook()
    async with running(link, owner):
        await hub.until(lambda: len(hub.of(Report)) == count)
        seen = len(hub.heartbeats)
        await hub.until(lambda: len(hub.heartbeats) > seen + 1)

    assert [message.attempt for message in hub.of(Report)] == [attempt(number) for number in range(count)]
    assert len(owner.told("forget")) == count


async def test_the_hubs_drain_comes_with_the_welcome(hub: HubServer) -> None:
    hub.draining = True
    owner = Notebook()
    async with running(make_link(hub), owner):
        await hub.until(lambda: hub.heartbeats)

    assert owner.told("drain") == [True]

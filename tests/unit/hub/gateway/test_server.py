"""The promises of the gateway about frames: what belongs together goes together, in its order, over the last socket."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import cast

import pytest

from hub.clock import SystemClock
from hub.core.agent import Held
from hub.gateway.connection import DROPPED, Link, Links
from hub.gateway.patience import Waited
from hub.gateway.ports import PresencePort, ResultsPort
from hub.gateway.server import Gateway, _together
from protocol import codec
from protocol.limits import LITTLE_BYTES
from protocol.messages import Accept, AnyMessage, Cancel, Heartbeat, Report
from protocol.model import AttemptId, AttemptState, TaskResult
from protocol.session import Session

WELL = TaskResult(execution_ok=True, verified=None)


def accept(number: int, task: str) -> Accept:
    return Accept(attempt=AttemptId("a", 1, task, 1), n=number)


def report(number: int, task: str, state: AttemptState = AttemptState.PASSED) -> Report:
    return Report(attempt=AttemptId("a", 1, task, 1), state=state, result=WELL, n=number)


def test_an_acceptance_goes_with_the_report_that_follows_it() -> None:
    found: list[AnyMessage] = [accept(1, "x"), report(2, "x"), accept(3, "y"), report(4, "y")]

    assert list(_together(found)) == [[(found[1], found[0]), (found[3], found[2])]]


def test_reports_that_stand_next_to_one_another_are_acted_on_together() -> None:
    found: list[AnyMessage] = [
        report(1, "x"),
        report(2, "y", AttemptState.FAILED),
        accept(3, "z"),
        report(4, "z"),
        accept(5, "w"),
        Heartbeat(sidecar="a", boot=1),
        report(6, "w"),
    ]

    x, y, z, accepted, heartbeat, w = found[0], found[1], (found[3], found[2]), found[4], found[5], found[6]
    assert list(_together(found)) == [[(x, None), (y, None), z], accepted, heartbeat, [(w, None)]]


def test_an_acceptance_goes_alone_before_anything_else() -> None:
    found: list[AnyMessage] = [
        accept(1, "x"),
        accept(2, "y"),
        report(3, "x"),
        Heartbeat(sidecar="a", boot=1),
        accept(4, "z"),
        report(5, "z", AttemptState.FAILED),
        accept(6, "v"),
        report(7, "w"),
        accept(8, "u"),
    ]

    assert list(_together(found)) == [[(each, None)] if isinstance(each, Report) else each for each in found]


class SlowLine:
    """A line that takes what is sent when it is told to."""

    token, channels, received_bytes, is_welcome = "", frozenset[str](), 0, True

    def __init__(self, *, is_free: bool = False) -> None:
        self.is_free, self.put_at_once = is_free, list[str]()
        self.sent: list[str] = []
        self.begins, self.takes = asyncio.Event(), asyncio.Event()

    def is_for(self, _sidecar: str) -> bool:
        return True

    async def receive(self) -> bytes | None:
        await asyncio.Event().wait()
        return None

    async def listen(self, _heard: Callable[[bytes], None]) -> None:
        await asyncio.Event().wait()

    async def send(self, frame: bytes) -> None:
        self.sent += [found.attempt.task for found in codec.decode(frame) if isinstance(found, Cancel)]
        self.begins.set()
        await self.takes.wait()

    def put(self, frame: bytes) -> None:
        assert self.is_free
        self.put_at_once += [found.attempt.task for found in codec.decode(frame) if isinstance(found, Cancel)]

    async def close(self, *, refused: bool = False, why: str = "") -> None:
        """Nothing is behind it."""


async def resend(_held: Held) -> None:
    """Nothing is held here."""


def cancel(task: str) -> Cancel:
    return Cancel(attempt=AttemptId("a", 1, task, 1), reason="")


async def test_a_writer_that_was_overtaken_while_it_wrote_takes_nothing_of_what_waits() -> None:
    clock, link, older, later = SystemClock(), Link("a", 1, Session()), SlowLine(), SlowLine()
    nobody = cast("PresencePort", None), cast("ResultsPort", None)  # nothing comes in: only what goes out is looked at
    gateway = Gateway(Links(clock), *nobody, clock, hub_boot=1, heartbeat_s=15.0, lease_s=30.0, resend=resend)
    link.socket = 1
    link.session.connected(0, clock.monotonic())
    link.send(cancel("x"))
    stuck = asyncio.create_task(gateway._write(older, link, 1))
    await older.begins.wait()
    link.socket = 2
    link.session.disconnected()
    link.session.connected(0, clock.monotonic())
    link.send(cancel("y"))
    older.takes.set()
    await stuck
    later.takes.set()
    writes = asyncio.create_task(gateway._write(later, link, 2))
    await later.begins.wait()
    writes.cancel()
    with suppress(asyncio.CancelledError):
        await writes

    assert (older.sent, later.sent) == (["x"], ["x", "y"])


async def served(line: SlowLine) -> tuple[Link, "asyncio.Task[None]"]:
    """A link whose writer has nothing to do."""
    clock, link = SystemClock(), Link("a", 1, Session())
    nobody = cast("PresencePort", None), cast("ResultsPort", None)
    gateway = Gateway(Links(clock), *nobody, clock, hub_boot=1, heartbeat_s=15.0, lease_s=30.0, resend=resend)
    link.socket, link.line = 1, line
    link.session.connected(0, clock.monotonic())
    writing = asyncio.create_task(gateway._write(line, link, 1))
    await asyncio.sleep(0)
    return link, writing


async def ended(link: Link, writing: "asyncio.Task[None]") -> None:
    link.socket = DROPPED
    link.work.set()
    await writing


async def test_a_little_leaves_at_once_over_a_free_line_and_nobody_is_woken_for_it() -> None:
    link, writing = await served(line := SlowLine(is_free=True))
    link.send_now(cancel("x"))
    link.send_now(cancel("y"), cancel("z"))

    assert line.put_at_once == ["x", "y", "z"]
    assert not link.work._is_set
    assert line.sent == []
    await ended(link, writing)


@pytest.mark.parametrize("why", ["the line is not free", "it is much", "its token was revoked", "it was overtaken"])
async def test_what_may_have_to_wait_or_must_not_leave_is_left_to_the_writer(why: str) -> None:
    link, writing = await served(line := SlowLine(is_free=why != "the line is not free"))
    line.is_welcome = why != "its token was revoked"
    link.socket = 2 if why == "it was overtaken" else 1
    link.send_now(cancel("x" * LITTLE_BYTES if why == "it is much" else "x"))

    assert line.put_at_once == []
    assert link.work._is_set
    line.takes.set()
    await ended(link, writing)


async def test_what_is_sent_while_the_writer_writes_comes_behind_that() -> None:
    link, writing = await served(line := SlowLine())
    link.send_now(cancel("x"))
    await line.begins.wait()
    line.is_free = True
    link.send_now(cancel("y"))
    assert (line.sent, line.put_at_once) == (["x"], [])
    line.takes.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert line.sent == ["x", "y"]
    await ended(link, writing)


async def test_answers_of_one_turn_wait_for_one_another() -> None:
    link, writing = await served(line := SlowLine(is_free=True))
    link.send(cancel("x"))
    link.send(cancel("y"))
    await line.begins.wait()

    assert (line.put_at_once, line.sent) == ([], ["x", "y"])
    line.takes.set()
    await ended(link, writing)


async def test_a_link_whose_socket_is_over_keeps_what_it_is_to_send() -> None:
    link, writing = await served(line := SlowLine(is_free=True))
    link.left(1.0)
    link.send_now(cancel("x"))

    assert (line.put_at_once, link.session.unacked) == ([], 1)
    await ended(link, writing)


class Beats:
    """The presence that heartbeats come to."""

    def __init__(self) -> None:
        self.came: list[str] = []

    def heartbeat(self, name: str, _message: Heartbeat) -> list[AttemptId]:
        self.came.append(name)
        return []


async def test_a_line_that_was_overtaken_is_not_heard_any_more() -> None:
    clock, link, beats = SystemClock(), Link("a", 1, Session()), Beats()
    ports = cast("PresencePort", beats), cast("ResultsPort", None)
    gateway = Gateway(Links(clock), *ports, clock, hub_boot=1, heartbeat_s=15.0, lease_s=30.0, resend=resend)
    link.session.connected(0, clock.monotonic())
    frame = codec.encode(Heartbeat(sidecar="a", boot=1))
    waited = Waited(SlowLine(), link, asyncio.Timeout(None), clock.monotonic())
    for socket in (1, 2):
        link.socket = socket
        gateway._hear(link, 1, waited, frame)

    assert beats.came == ["a"]

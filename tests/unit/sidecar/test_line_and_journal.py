"""The promise of link, runner and journal together: a report does not wait for another one to be forgotten."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from protocol.messages import Report
from protocol.model import TaskSpec
from sidecar.link import Link
from sidecar.runner import Runner
from sidecar.shop import Shop
from sidecar.short_frames import ShortFrames
from tests.support.hub_server import HubServer
from tests.support.links import make_link, running
from tests.support.runners import assign, attempt, make

NOOP = TaskSpec(executor="noop")
TIDY_S = 61.5
TURNS = 30


async def calm(link: Link) -> None:
    """Until hub and link have had nothing to do for so many turns of the event loop."""
    turns = 0
    async with asyncio.timeout(30):
        while turns < TURNS:
            await asyncio.sleep(0.005)  # the link tells nobody that it rests
            turns = turns + 1 if link._is_idle and not link._changed.is_set() else 0


async def test_what_is_acknowledged_is_forgotten_behind_the_next_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    call_later, put = loop.call_later, ShortFrames.put
    tidy: list[Callable[..., object]] = []
    at_put: list[tuple[set[str], set[str]]] = []  # in the journal, in the inventory

    def timed(delay: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        if delay == TIDY_S:
            tidy.append(callback)
        return call_later(delay, callback, *args)

    bench = make(tmp_path)
    reader = apsw.Connection(str(tmp_path / "journal.db"))

    def written() -> set[str]:
        return {str(task) for (task,) in reader.execute("SELECT task FROM attempts")}

    def looked_at(socket: ShortFrames, frame: bytes) -> None:
        at_put.append((written(), {held.attempt.task for held in runner.inventory()}))
        put(socket, frame)

    monkeypatch.setattr("sidecar.link.TIDY_S", TIDY_S)  # a time that no other timer has
    monkeypatch.setattr(loop, "call_later", timed)  # all timers still run; this one is called by hand when it is wanted
    monkeypatch.setattr(ShortFrames, "put", looked_at)  # still puts; no other moment is that at which a frame leaves
    hub = HubServer(heartbeat_s=60.0)
    await hub.start()
    link = make_link(hub)
    runner = Runner("Arbitrary", 2, Shop(bench.parts), bench.journal, link, None)
    one, two, three = (attempt(number).task for number in (1, 2, 3))
    async with running(link, runner):
        await hub.until(lambda: hub.heartbeats)
        await calm(link)
        await hub.say(assign(NOOP, 1, "noop"))
        await hub.until(lambda: hub.of(Report))
        await link.delivered()
        await calm(link)
        hub.acknowledges = False
        await hub.say(assign(NOOP, 2, "noop"))
        await hub.until(lambda: len(hub.of(Report)) == 2)
        await hub.acknowledge_all(assign(NOOP, 3, "noop"))
        await hub.until(lambda: len(hub.of(Report)) == 3)

        assert at_put[-2:] == [({one, two}, {two}), ({one, two, three}, {two, three})]

        (callback,) = tidy
        callback()
        await calm(link)

        assert written() == {three}
    reader.close()
    bench.journal.close()
    await hub.stop()

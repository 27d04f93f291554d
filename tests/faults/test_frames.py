"""Rows T11, T17 and T46: frames that are cut off, said again, out of order, or made to hurt."""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgpack
import psutil
import pytest
import websockets

from sidecar.app import start
from sidecar.settings import Settings
from tests.support.faulty_proxy import Faults, FaultyProxy, Way
from tests.support.foreign_agent import ForeignAgent, Plain
from tests.support.history import assert_nothing_lost, wait_ended
from tests.support.links import PACE
from tests.support.mesh import Mesh, mesh

MIB = 1 << 20
ROOM = 32 * MIB
"""What the hub's memory may grow by while it refuses crafted frames; what it allocates for one it gives back."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Mesh]:
    with mesh(tmp_path, lease_s=120.0, heartbeat_s=20.0) as made:
        yield made


# --- T11 --------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def hasty_sidecars(hub: Mesh, proxy: FaultyProxy, *names: str) -> AsyncIterator[None]:
    """Real sidecars in this process that dial again at once: a thousand cuts are not a thousand waits."""
    async with contextlib.AsyncExitStack() as stack:
        for name in names:
            settings = Settings(
                hub=f"http://127.0.0.1:{proxy.port}",
                token=hub.token("agent"),
                state_dir=str(hub.folder / f"state-{name}"),
                name=name,
                slots=8,
                endpoints=(),
            )
            running = await start(settings, pace=PACE)
            stack.push_async_callback(running.stop)
        yield


async def cut_so_often(hub: Mesh, cuts: int, seed: int) -> None:
    target = hub.url.removeprefix("http://").partition(":")
    proxy = FaultyProxy((target[0], int(target[2])), seed)
    await proxy.start()
    acknowledged: list[str] = []
    specs = [{"title": "x", "executor": "noop"}] * 9 + [{"command": "echo $AGENTCOM_TASK"}]
    try:
        async with hasty_sidecars(hub, proxy, "One", "Two"):
            while proxy.counts.cuts < cuts:
                # Anywhere: in the upgrade, in the hello, between two frames or in the middle of one; RST or FIN.
                way = Way(cut_after=(200, 6_000))
                proxy.faults = Faults(up=way, down=Way(cut_after=(200, 9_000)), resets=len(acknowledged) % 20 == 0)
                fresh = await asyncio.to_thread(hub.submit_all, specs)
                acknowledged += fresh
                await asyncio.to_thread(wait_ended, hub, fresh)
            history = await asyncio.to_thread(assert_nothing_lost, hub, acknowledged)
    finally:
        await proxy.stop()
    counts = proxy.counts
    print(f"\nT11: {counts.cuts} cuts of {counts.accepted} connections: {history}")
    assert history.states == {"completed": len(acknowledged)}
    assert history.accepted == len(acknowledged)


async def test_t11_lines_that_are_cut_in_the_middle_of_a_frame_lose_and_double_nothing(hub: Mesh) -> None:
    """Every connection is cut after a random number of bytes: no message is half applied, none is lost."""
    await cut_so_often(hub, 100, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
async def test_t11_a_thousand_cuts(hub: Mesh) -> None:
    """As above at full count."""
    await cut_so_often(hub, 1_000, seed=2)


# --- T17 --------------------------------------------------------------------------------------------------------------


class Parrot(ForeignAgent):
    """A foreign agent that remembers every frame it has sent, and can say them all again."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        super().__init__(socket)
        self.said: list[bytes] = []
        self.times = 1

    async def say(self, *messages: Plain) -> None:
        frame = msgpack.packb(messages[0] if len(messages) == 1 else list(messages))
        self.said.append(frame)
        for _ in range(self.times if b"\xa1t\xa5hello" not in frame else 1):
            await self.socket.send(frame)

    async def say_again(self, frames: list[bytes]) -> None:
        for frame in frames:
            await self.socket.send(frame)

    async def is_heard(self) -> None:
        """Everything that was said has been acted on: the hub reads in order."""
        await self.socket.send(msgpack.packb({"t": "ping", "token": 4_242}))
        await self.until("pong", token=4_242)


def facts(hub: Mesh) -> list[tuple[str, Any, Any]]:
    """What the log tells of tasks; late reports are told too, and change nothing."""
    return [(e["kind"], e["task"], e["epoch"]) for e in hub.events() if e["task"] and e["kind"] != "report_stale"]


async def three_tasks(hub: Mesh, parrot: Parrot) -> list[str]:
    tasks = []
    for _ in range(3):
        tasks.append(hub.submit(title="x", executor="noop"))
        attempt = await parrot.take()
        await parrot.tell("progress", attempt, state="running", iteration=1)
        await parrot.tell("log", attempt, offset=0, stream="stdout", text="hello")
        await parrot.until_acknowledged(await parrot.report(attempt, output="done"))
    return tasks


async def test_t17_frames_that_are_said_again_change_nothing(hub: Mesh) -> None:
    """Every frame comes twice; then the whole conversation again on its own line, on new ones and by a later start."""
    token = hub.token("agent")
    parrot = await Parrot.join(hub.url, token, name="Parrot", boot=1)
    parrot.times = 2
    tasks = await three_tasks(hub, parrot)
    parrot.times = 1
    before = facts(hub)
    frames = [frame for frame in parrot.said if b"\xa1t\xa5hello" not in frame]
    await parrot.say_again(frames)
    await parrot.is_heard()
    frames = [frame for frame in frames if b"\xa1t\xa3ack" not in frame]  # of a line that knows nothing, a violation
    for boot in (1, 1, 2):
        again = await Parrot.join(hub.url, token, name="Parrot", boot=boot)
        await again.say_again(frames)
        await again.is_heard()
        await again.leave()
    await parrot.leave()
    history = assert_nothing_lost(hub, tasks)

    print(f"\nT17: {len(frames)} frames said again 5 times: {history}")
    assert facts(hub) == before
    assert (history.attempts, history.accepted) == (3, 3)
    assert [len(hub.call("GET", f"/api/v1/tasks/{task}/logs")["logs"]) for task in tasks] == [1, 1, 1]


async def test_t17_frames_out_of_order_end_their_line_and_are_not_acted_on(hub: Mesh) -> None:
    """A report overtakes what was said before it: the line is closed, nothing of it counts, and it can come back."""
    token = hub.token("agent")
    parrot = await Parrot.join(hub.url, token, name="Parrot", boot=1)
    [task] = hub.submit_all([{"title": "x", "executor": "noop"}])
    attempt = await parrot.take()
    await parrot.until_acknowledged(parrot.sent)
    before = facts(hub)
    parrot.sent += 1  # a message that never comes
    await parrot.report(attempt)
    code = await parrot.closed()
    after = facts(hub)
    held = [{"attempt": attempt, "state": "running"}]
    again = await Parrot.join(hub.url, token, name="Parrot", boot=1, inventory=held)
    await again.until_acknowledged(await again.report(attempt))
    await again.leave()
    history = assert_nothing_lost(hub, [task])

    assert code == websockets.CloseCode.POLICY_VIOLATION
    assert after == before
    assert (history.states, history.attempts) == ({"completed": 1}, 1)


# --- T46 --------------------------------------------------------------------------------------------------------------


def ping_with(value: bytes) -> bytes:
    """A ping with one more field, which a receiver has to step over."""
    return b"\x83\xa1t\xa4ping\xa5token\x01\xa1x" + value


CRAFTED: dict[str, bytes] = {
    "a frame over the limit": b"\xc6" + (MIB + 100).to_bytes(4, "big") + b"x" * (MIB + 100),
    "an array of four thousand million": b"\xdd\xff\xff\xff\xff",
    "a map of four thousand million": b"\xdf\xff\xff\xff\xff",
    "a text of four gigabytes": ping_with(b"\xdb\xff\xff\xff\xff"),
    "a hundred thousand levels of arrays": ping_with(b"\x91" * 100_000 + b"\xc0"),
    "a hundred thousand levels of maps": ping_with(b"\x81\xa1a" * 100_000 + b"\xc0"),
    "a million empty maps": b"\xdd" + (1_000_000).to_bytes(4, "big") + b"\x80" * 1_000_000,
    "a million pings": b"\xdd" + (70_000).to_bytes(4, "big") + b"\x82\xa1t\xa4ping\xa5token\x01" * 70_000,
    "nothing": b"",
}
HARMLESS: dict[str, bytes] = {
    "a million empty maps in a field that nobody knows": ping_with(
        b"\xdd" + (1_000_000).to_bytes(4, "big") + b"\x80" * 1_000_000
    ),
    "an extension type in a field that nobody knows": ping_with(b"\xc7\x05\x2ahello"),
    "a field twice": b"\x83\xa1t\xa4ping\xa5token\x01\xa5token\x02",
}


async def test_t46_crafted_frames_end_their_own_line_and_cost_next_to_nothing(hub: Mesh) -> None:
    """Sizes, counts and depths that lie: each closes the line it came on; others are served, memory stays."""
    token = hub.token("agent")
    assert hub.hub is not None
    memory = psutil.Process(hub.hub.pid).memory_info
    witness = await Parrot.join(hub.url, token, name="Witness", boot=1)
    before = memory().rss
    longest_s = 0.0
    for number, (name, frame) in enumerate(CRAFTED.items()):
        rude = await Parrot.join(hub.url, token, name=f"Rude-{number}", boot=1)
        began = time.monotonic()
        with contextlib.suppress(websockets.ConnectionClosed):
            await rude.socket.send(frame)
        await witness.is_heard()
        longest_s = max(longest_s, time.monotonic() - began)
        assert await rude.closed() in {1002, 1007, 1008, 1009}, name
    for number, (name, frame) in enumerate(HARMLESS.items()):
        odd = await Parrot.join(hub.url, token, name=f"Odd-{number}", boot=1)
        await odd.socket.send(frame)
        assert (await odd.until("pong"))["token"] in {1, 2}, name
        await odd.leave()
    grown = memory().rss - before
    [task] = hub.submit_all([{"title": "x", "executor": "noop"}])
    await witness.work()
    await witness.leave()

    print(f"\nT46: a witness waited {longest_s * 1000:.0f} ms at most, the hub grew by {grown / MIB:.1f} MiB")
    assert grown < ROOM
    assert assert_nothing_lost(hub, [task]).accepted == 1


async def test_t46_a_compressed_frame_is_refused(hub: Mesh) -> None:
    """Nobody has agreed on compression, so a frame that says it is compressed is not unpacked."""
    host, _, port = hub.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    offer = "Sec-WebSocket-Extensions: permessage-deflate"
    upgrade = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n{key}\r\n{offer}\r\n"
    bearer = f"Authorization: Bearer {hub.token('agent')}"
    writer.write(f"GET /mesh HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\n{upgrade}\r\n".encode())
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        mask, packed = secrets.token_bytes(4), os.urandom(100)
        body = bytes(byte ^ mask[place % 4] for place, byte in enumerate(packed))
        writer.write(b"\xc2" + bytes([0x80 | len(body)]) + mask + body)  # FIN, RSV1: compressed; binary
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()

    assert b"101 Switching" in head
    assert b"permessage-deflate" not in head.lower()
    assert answer[:1] == b"\x88", "the hub closes"
    assert int.from_bytes(answer[2:4], "big") == websockets.CloseCode.PROTOCOL_ERROR

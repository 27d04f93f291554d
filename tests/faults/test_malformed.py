"""Row T45: frames that are no frames of this protocol, by the hundred thousand. Only typed errors, nothing else.

The decoder and the session are fed in this process; the gateway in a hub of its own, by an agent that holds real work.
"""

import contextlib
import gc
import itertools
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import psutil
import pytest
import websockets
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import codec
from protocol.errors import FrameTooLarge, MalformedFrame, ProtocolViolation
from protocol.session import Session
from tests.support.foreign_agent import ForeignAgent
from tests.support.history import assert_nothing_lost
from tests.support.mesh import Mesh, Refused, mesh
from tests.support.mutations import KINDS, frames, odd

MIB = 1 << 20
FLAT = 16 * MIB
SOAK_S = float(os.environ.get("SOAK_S", "600"))
GOLDEN = Path(__file__).parents[1] / "unit" / "protocol" / "golden" / "messages.json"
CORPUS = [bytes.fromhex(entry["hex"]) for entry in json.loads(GOLDEN.read_text("utf-8")).values()]

Going = Callable[[int], bool]
"""Whether to go on after so many."""


def up_to(count: int) -> Going:
    return lambda done: done < count


def for_seconds(seconds: float) -> Going:
    until = time.monotonic() + seconds
    return lambda _done: time.monotonic() < until


def rss() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


# --- decoder and session ----------------------------------------------------------------------------------------------


def feed(going: Going, seed: int) -> Counter[str]:
    """Feed decoder and session; what came of the frames, by the name of the error."""
    found: Counter[str] = Counter()
    made = frames(random.Random(seed), CORPUS)
    session = Session()
    session.connected(0, 0.0)
    for done in itertools.count():
        if not going(done):
            return found
        frame = next(made)
        try:
            codec.decode(frame)
        except (FrameTooLarge, MalformedFrame) as exc:
            found[type(exc).__name__] += 1
        else:
            found["decoded"] += 1
        try:
            for message in session.receive(frame, float(done)):
                session.acknowledge(getattr(message, "n", 0))
            session.data_to_send()
        except (FrameTooLarge, MalformedFrame):
            pass
        except ProtocolViolation:
            found["violations"] += 1
            session = Session()  # as a link does: a new line, and both count from 1
            session.connected(0, float(done))
    raise AssertionError


def feed_and_weigh(going: Going, seed: int) -> None:
    feed(up_to(20_000), seed)  # whatever is built once is built now
    before = rss()
    began = time.monotonic()
    found = feed(going, seed + 1)
    grown = rss() - before

    total = sum(found.values()) - found["violations"]
    took_s = time.monotonic() - began
    print(f"\nT45: {total} frames in {took_s:.0f} s: {dict(found)}; memory grew by {grown / MIB:.1f} MiB")
    assert min(found["decoded"], found["MalformedFrame"], found["violations"]) > total // 1_000, "it has to get deep"
    assert grown < FLAT


def test_t45_malformed_frames_are_told_as_such_and_nothing_else_happens() -> None:
    """Damaged and odd frames into decoder and session: typed errors only, memory stays."""
    feed_and_weigh(up_to(150_000), seed=1)


@pytest.mark.soak
@pytest.mark.timeout(SOAK_S + 300)
def test_t45_ten_minutes_of_malformed_frames() -> None:
    """As above for ten minutes, with other seeds every time."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"\nseed {seed}")
    feed_and_weigh(for_seconds(SOAK_S), seed)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    "n attempt state result spec routing protocol sidecar boot host slots version inventory hub_boot received".split()
)


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(KINDS) | st.text(max_size=5),
    fields=st.dictionaries(FIELDS, PLAIN, max_size=6),
    many=st.booleans(),
)
def test_t45_any_map_that_calls_itself_a_message_is_one_or_is_malformed(
    kind: str, fields: dict[str, Any], *, many: bool
) -> None:
    """Any value in any field of any kind: it is read, or refused as malformed."""
    message = {"t": kind, **fields}
    frame = msgpack.packb([message, message] if many else message)
    with contextlib.suppress(MalformedFrame, FrameTooLarge):
        codec.decode(frame)


# --- gateway ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Mesh]:
    with mesh(tmp_path, lease_s=120.0, heartbeat_s=20.0) as made:
        yield made


async def converse(hub: Mesh, token: str, name: str, chance: random.Random) -> str:
    """One line: a good hello, real work in hand, then nonsense about it until the hub closes; the task."""
    agent = await ForeignAgent.join(hub.url, token, name=name, boot=1, capabilities=["executor:noop", name])
    task = hub.submit(title="x", executor="noop", needs=[name])
    attempt = await agent.take()
    result = {"execution_ok": True, "verified": None, "output": "done"}
    talk: list[dict[str, Any]] = [
        {"t": "progress", "attempt": attempt, "state": "running", "iteration": 1},
        {"t": "log", "attempt": attempt, "offset": 0, "stream": "stdout", "text": "hello"},
        {"t": "heartbeat", "sidecar": name, "boot": 1, "attempts": [{"attempt": attempt, "state": "running"}]},
        {"t": "report", "attempt": attempt, "state": "passed", "result": result},
        {"t": "ping", "token": 1},
    ]
    damaged = frames(chance, [*CORPUS, *map(msgpack.packb, talk)])
    with contextlib.suppress(websockets.ConnectionClosed):
        for _ in range(30):
            agent.sent += 1
            message = {**chance.choice(talk), "n": agent.sent}
            odd_one = odd(chance, message) if chance.random() < 0.5 else message
            await agent.socket.send(next(damaged) if chance.random() < 0.1 else msgpack.packb(odd_one))
    await agent.leave()
    return task


async def shout(hub: Mesh, going: Going, seed: int) -> None:
    """Conversation after conversation; in between a witness does honest work."""
    token = hub.token("agent")
    assert hub.hub is not None
    chance = random.Random(seed)
    tasks, grown, before = [], 0, 0
    witness = await ForeignAgent.join(hub.url, token, name="Witness", capabilities=["executor:noop", "witness"])
    for done in itertools.count():
        if not going(done):
            break
        tasks.append(await converse(hub, token, f"rude{done}", chance))
        if done % 20 == 0:
            tasks.append(hub.submit(title="x", executor="noop", needs=["witness"]))
            await witness.work()
            memory = psutil.Process(hub.hub.pid).memory_info().rss
            before, grown = (before or memory), memory - (before or memory)
    await witness.leave()
    for task in tasks:
        with contextlib.suppress(Refused):  # what the rude ones have not ended themselves; most have
            hub.call("POST", f"/api/v1/tasks/{task}/cancel", {"reason": "the test is over"})
    history = assert_nothing_lost(hub, tasks)

    print(f"\nT45 gateway, seed {seed}: {len(tasks)} tasks: {history}; the hub grew by {grown / MIB:.1f} MiB")
    assert "Traceback" not in hub.logs()
    assert grown < 4 * FLAT


async def test_t45_an_agent_that_talks_nonsense_about_real_work_harms_nobody(hub: Mesh) -> None:
    """Odd and damaged frames from an agent that holds an attempt: its line may end, the hub and others go on."""
    await shout(hub, up_to(40), seed=1)


@pytest.mark.soak
@pytest.mark.timeout(SOAK_S + 300)
async def test_t45_ten_minutes_of_nonsense_about_real_work(hub: Mesh) -> None:
    """As above for ten minutes, with other seeds every time."""
    await shout(hub, for_seconds(SOAK_S), seed=random.SystemRandom().randrange(1 << 32))

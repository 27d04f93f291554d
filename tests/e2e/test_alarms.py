"""A sidecar is killed, another one's network is cut, the hub's disk fills up: each is told once, and so is its end."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import websockets

from tests.support.faulty_proxy import Faults, FaultyProxy, Way
from tests.support.foreign_agent import ForeignAgent
from tests.support.pager import Pager, pager_at_work
from tests.support.running_hub import RunningHub, running_hub

MIB = 1 << 20
SWALLOW = Faults(up=Way(swallows=True), down=Way(swallows=True))


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of 64 MiB."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


class Machine:
    """A sidecar that lives, until its process or its network ends."""

    def __init__(self, hub: RunningHub, name: str, url: str) -> None:
        self._hub, self._name, self._url = hub, name, url
        self._agent: ForeignAgent | None = None
        self._beats: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Come, or come back."""
        self._agent = await ForeignAgent.join(self._url, self._hub.tokens["agent"], name=self._name)
        self._beats = asyncio.create_task(self._beat(self._agent))

    async def _beat(self, agent: ForeignAgent) -> None:
        with contextlib.suppress(OSError, websockets.ConnectionClosed):
            while True:
                await agent.say({"t": "heartbeat", "sidecar": self._name, "boot": 1, "attempts": []})
                await asyncio.sleep(0.5)

    async def die(self) -> None:
        """As killed: the socket ends in the middle, and nothing is said."""
        assert self._agent is not None
        assert self._beats is not None
        self._beats.cancel()
        self._agent.socket.transport.abort()
        await asyncio.gather(self._beats, return_exceptions=True)


@pytest.fixture
async def pager() -> AsyncIterator[Pager]:
    async with pager_at_work() as made:
        yield made


def of(pager: Pager, rule: str, subject: str = "") -> list[str]:
    """What was told of one thing; each time with its link to what to do."""
    found = [event for event in pager.events if (event["rule"], event["subject"]) == (rule, subject)]
    assert {event["runbook"] for event in found} <= {f"docs/operate/runbooks.md#{rule}"}
    return [event["event"] for event in found]


async def fill(place: Path) -> Path:
    """Somebody else's file, which leaves 2 MiB; its path."""
    path, room = place / "somebody-elses", os.statvfs(place)
    path.write_bytes(bytes(room.f_bavail * room.f_frsize - 2 * MIB))
    return path


@pytest.mark.root
async def test_killed_cut_and_full_are_each_told_once_with_the_runbook_and_end_by_themselves(
    tmp_path: Path, pager: Pager
) -> None:
    with small_disk(tmp_path / "disk") as place:
        async with running_hub(place / "hub", heartbeat_s=1.0, lease_s=10.0) as hub:
            await hub.ask("PATCH", "/api/v1/alerts/rules/agent_lost", json={"threshold": 1})
            await hub.ask("POST", "/api/v1/notifiers", json={"url": pager.url})
            proxy = FaultyProxy(("127.0.0.1", int(hub.url.rpartition(":")[2])))
            await proxy.start()
            killed, cut = Machine(hub, "Killed", hub.url), Machine(hub, "Cut", f"http://127.0.0.1:{proxy.port}")
            await asyncio.gather(killed.join(), cut.join())

            await killed.die()
            proxy.faults = SWALLOW
            filled = await fill(place)
            things = [("agent_lost", "Killed"), ("agent_lost", "Cut"), ("hub_disk", "")]
            await pager.until(lambda: all(of(pager, *thing) == ["firing"] for thing in things))
            refused = await hub.ask("POST", "/api/v1/tasks", json={"title": "x", "executor": "noop"})
            assert refused.status == 507

            proxy.faults = Faults()
            await cut.die()
            filled.unlink()
            await asyncio.gather(killed.join(), cut.join())
            await pager.until(lambda: all(of(pager, *thing)[-1] == "resolved" for thing in things))
            await proxy.stop()
            await asyncio.gather(killed.die(), cut.die())

    assert [of(pager, *thing) for thing in things] == [["firing", "resolved"]] * 3

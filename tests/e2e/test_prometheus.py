"""The real Prometheus and Alertmanager beside a hub: what goes wrong reaches a person's webhook, once, and ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgpack
import pytest
import websockets
from msgspec.structs import replace

from tests.ops import boards, rules
from tests.support.foreign_agent import ForeignAgent, Plain
from tests.support.pager import Pager, pager_at_work
from tests.support.prometheus import alertmanager, prometheus
from tests.support.running_hub import running_hub

AT_ONCE = [replace(rule, **({"threshold": 1} if rule.name == "hub_down" else {"for_s": 1})) for rule in rules.ALL]


@pytest.fixture
async def pager() -> AsyncIterator[Pager]:
    async with pager_at_work() as made:
        yield made


def told(pager: Pager, name: str) -> list[dict[str, Any]]:
    """What Alertmanager has told of an alert."""
    alerts = [alert for event in pager.events for alert in event["alerts"]]
    return [alert for alert in alerts if alert["labels"]["alertname"] == name]


async def until(pager: Pager, name: str, *states: str) -> dict[str, Any]:
    """Wait until an alert was told to stand so, one after the other; the last one."""
    await pager.until(lambda: [alert["status"] for alert in told(pager, name)] == [*states])
    return told(pager, name)[-1]


class Machine:
    """A sidecar that says again and again how full the memory of its machine is."""

    def __init__(self, agent: ForeignAgent) -> None:
        self._agent, self.ram_share = agent, 0.1

    def _heartbeat(self) -> Plain:
        size = 64 << 30
        report = {
            "cpu": {"percent": 5.0, "cores": 4},
            "ram": {"total_bytes": size, "used_bytes": int(size * self.ram_share)},
            "disk": {"total_bytes": size, "used_bytes": 0},
            "at": msgpack.Timestamp.from_datetime(datetime.now(UTC)),
        }
        return {"t": "heartbeat", "sidecar": "Foreign", "boot": 1, "attempts": [], "host": report}

    async def run(self) -> None:
        """Speak until the socket is closed."""
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await self._agent.say(self._heartbeat())
                await asyncio.sleep(1)


async def test_what_goes_wrong_is_told_once_with_its_runbook_and_so_is_its_end(tmp_path: Path, pager: Pager) -> None:
    data = tmp_path / "hub"
    async with running_hub(data) as hub, alertmanager(tmp_path, rules.alertmanager_file(pager.url)) as manager:
        target = hub.url.removeprefix("http://")
        seen = prometheus(tmp_path, rules.rule_file(AT_ONCE), manager, target, hub.tokens["viewer"])
        machine = Machine(await ForeignAgent.join(hub.url, hub.tokens["agent"]))
        machine.ram_share = 0.97
        beats = asyncio.create_task(machine.run())
        async with seen as found:
            said = await until(pager, "AgentComHostRam", "firing")
            assert said["annotations"]["runbook_url"].endswith("runbooks.md#host_ram")
            assert said["annotations"]["summary"] == "A machine has no main memory left: elsewhere, 97%"
            assert said["labels"]["severity"] == "warning"
            assert (await found.until("agentcom_host_memory_ratio"))[0]["metric"]["host"] == "elsewhere"

            machine.ram_share = 0.1
            await until(pager, "AgentComHostRam", "firing", "resolved")
            for expr in boards.expressions():
                await found.ask(expr)
            await found.until("job_phase:agentcom_task_seconds:p95_5m")

            await hub.running.stop()
            await beats
            said = await until(pager, "AgentComHubDown", "firing")
            assert (said["labels"]["severity"], said["labels"]["instance"]) == ("critical", target)
            async with running_hub(data, listen=target):
                await until(pager, "AgentComHubDown", "firing", "resolved")
            assert len(told(pager, "AgentComHostRam")) == 2

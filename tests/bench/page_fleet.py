"""What the page is measured with: machines with GPUs that do not exist, and a task whose log is long."""

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from msgspec.structs import replace

from agentcom.bench.light import LightSidecar
from protocol.limits import MAX_LOG_CHUNK_BYTES
from protocol.machine import CpuReport, GpuReport, HostReport, SpaceReport
from protocol.messages import Accept, Assign, Heartbeat, Hello, Log, Report
from protocol.model import AttemptId

GPUS: Final = 4
_GIB: Final = 1 << 30
_CHANCE: Final = random.Random(7)


class Machine(LightSidecar):
    """A machine with four GPUs, all of whose figures move all the time. It takes no work."""

    def hello(self) -> Hello:
        """See :class:`LightSidecar`."""
        return replace(super().hello(), host=self.name)

    async def beat(self, due_at: float) -> None:
        """See :class:`LightSidecar`; with a reading."""
        if self._socket is not None and not self._socket.closed:
            self._session.send(Heartbeat(sidecar=self.name, boot=1, draining=self.is_at_rest, host=_reading(self.name)))
            self._session.ping(due_at)
            await self._flush(self._socket)


def _reading(name: str) -> HostReport:
    ours = _CHANCE.randrange(60 * _GIB)
    gpus = tuple(
        GpuReport(
            name="NVIDIA H100 80GB HBM3",
            vendor="nvidia",
            index=index,
            uuid=f"GPU-{name}-{index}",
            driver="550.54",
            vram_total_bytes=80 * _GIB,
            vram_used_bytes=ours + 3 * _GIB,
            vram_ours_bytes=ours,
            vram_foreign_bytes=2 * _GIB,
            utilization=_CHANCE.uniform(0, 100),
            temperature_c=_CHANCE.uniform(35, 80),
            power_w=_CHANCE.uniform(80, 700),
            power_limit_w=700.0,
        )
        for index in range(GPUS)
    )
    return HostReport(
        at=datetime.now(UTC),
        cpu=CpuReport(percent=_CHANCE.uniform(0, 100), cores=64, load=(3.0, 2.0, 1.0)),
        ram=SpaceReport(total_bytes=512 * _GIB, used_bytes=_CHANCE.randrange(512 * _GIB)),
        disk=SpaceReport(total_bytes=4000 * _GIB, used_bytes=900 * _GIB + _CHANCE.randrange(_GIB)),
        gpus=gpus,
    )


class Writer(LightSidecar):
    """Takes one task and writes; it ends it never."""

    attempt: AttemptId | None = None
    written = 0

    def __init__(self, name: str, slots: int, answered_ms: list[float]) -> None:
        super().__init__(name, slots, answered_ms)
        self.has_work = asyncio.Event()

    def work(self, assign: Assign) -> Iterator[Accept | Report]:
        """See :class:`LightSidecar`."""
        self.attempt = assign.attempt
        self.has_work.set()
        yield Accept(attempt=assign.attempt)

    async def write(self, text: str) -> None:
        """More output, in pieces as long as they may be."""
        assert self.attempt is not None, "it has a task"
        assert self._socket is not None, "it is there"
        for start in range(0, len(text), MAX_LOG_CHUNK_BYTES):
            piece = text[start : start + MAX_LOG_CHUNK_BYTES]
            self._session.send(Log(attempt=self.attempt, offset=self.written, stream="stdout", text=piece))
            self.written += len(piece)
            await self._flush(self._socket)
            await asyncio.sleep(0.01)

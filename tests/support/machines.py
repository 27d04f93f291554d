"""Machines and LLM endpoints as sidecars report them."""

from datetime import UTC, datetime

from hub.core.fleet import Fleet
from protocol.machine import CpuReport, GpuReport, HostReport, SpaceReport
from protocol.model import AgentState, EndpointKind, EndpointReport, ModelReport, Residency

GB = 10**9


def host(*gpus: GpuReport, ram_gb: float = 16) -> HostReport:
    """A machine with these GPUs and nothing going on."""
    return HostReport(
        cpu=CpuReport(percent=0.0, cores=8),
        ram=SpaceReport(total_bytes=int(ram_gb * GB), used_bytes=0),
        disk=SpaceReport(total_bytes=1000 * GB, used_bytes=0),
        gpus=gpus,
        at=datetime.fromtimestamp(0, UTC),
    )


def gpu(vram_gb: float, used_gb: float = 0.0, name: str = "NVIDIA GeForce RTX 3090") -> GpuReport:
    """A GPU with so much memory."""
    return GpuReport(name=name, vram_total_bytes=int(vram_gb * GB), vram_used_bytes=int(used_gb * GB))


def model(name: str, size_gb: float = 4.0, residency: Residency = Residency.COLD) -> ModelReport:
    """A model that takes its size in memory and writes 50 tokens a second."""
    size = int(size_gb * GB)
    return ModelReport(name=name, residency=residency, size_bytes=size, vram_bytes=size, tokens_per_s=50.0)


def ollama(*models: ModelReport, parallel: int = 1) -> EndpointReport:
    """A local endpoint."""
    return EndpointReport(
        id="ollama",
        kind=EndpointKind.OLLAMA,
        url="http://127.0.0.1:11434",
        local=True,
        models=models,
        parallel=parallel,
    )


def add(fleet: Fleet, name: str, *models: ModelReport, slots: int = 4, vram_gb: float = 24, parallel: int = 1) -> None:
    """An idle agent on a machine of its own, beside an Ollama server."""
    agent = fleet.agent(name)
    agent.host, agent.slots, agent.state = name, slots, AgentState.IDLE
    agent.capabilities = frozenset({"executor:chat", "executor:shell"})
    agent.endpoints, agent.report = (ollama(*models, parallel=parallel),), host(gpu(vram_gb))
    fleet.changed()

"""Read the machines and models of a simulation from a TOML file.

::

    [[models]]
    name = "qwen3:8b"           # as a trace or the Zipf draw names it
    size_gb = 5.2
    prefill_tokens_per_s = 4000 # on a machine of 1,000 GB/s; others in proportion
    success = 0.9               # share of its answers that pass their checks

    [[hosts]]
    name = "tower"
    count = 2                   # tower-1, tower-2
    vram_gb = 24
    bandwidth_gb_s = 1008
    disk_gb_s = 2.0
    parallel = 1                # requests at a time
    usd_per_hour = 0.12
    models = ["qwen3:8b"]       # on its disk; left out: all
"""

import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from protocol.errors import BadInput, Problem

REFERENCE_GB_S: Final = 1_000.0
EFFICIENCY: Final = 0.6
"""Share of the memory bandwidth that decoding reaches."""
OVERHEAD: Final = 1.15
"""Memory that a model takes, as a multiple of its size on disk."""
LOAD_OVERHEAD_S: Final = 0.5


class ModelPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that requests ask for."""

    name: str
    size_gb: float
    prefill_tokens_per_s: float = 3_000.0
    success: float = 1.0


class HostPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine with one LLM server."""

    name: str
    count: int = 1
    vram_gb: float = 24.0
    bandwidth_gb_s: float = REFERENCE_GB_S
    disk_gb_s: float = 1.0
    parallel: int = 1
    usd_per_hour: float = 0.0
    models: tuple[str, ...] = ()

    def load_s(self, model: ModelPlan) -> float:
        """Seconds until ``model`` is in memory."""
        return LOAD_OVERHEAD_S + model.size_gb / self.disk_gb_s

    def prefill_tokens_per_s(self, model: ModelPlan) -> float:
        """Prompt tokens a second."""
        return model.prefill_tokens_per_s * self.bandwidth_gb_s / REFERENCE_GB_S

    def decode_tokens_per_s(self, model: ModelPlan) -> float:
        """Answer tokens a second."""
        return EFFICIENCY * self.bandwidth_gb_s / model.size_gb

    def service_s(self, model: ModelPlan, input_tokens: float, output_tokens: float) -> float:
        """Seconds for one request whose model is in memory."""
        return input_tokens / self.prefill_tokens_per_s(model) + output_tokens / self.decode_tokens_per_s(model)

    def holds(self, model: ModelPlan) -> bool:
        """Whether the model could ever answer here."""
        return (not self.models or model.name in self.models) and OVERHEAD * model.size_gb <= self.vram_gb


class FleetPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All machines, each listed once, and all models."""

    models: tuple[ModelPlan, ...]
    hosts: tuple[HostPlan, ...]


def read_fleet(path: Path) -> FleetPlan:
    """The fleet in a TOML file, with ``count`` written out.

    Raises:
        BadInput: it cannot be read or makes no sense; everything that is wrong is listed.
    """
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise BadInput([Problem(str(path), f"cannot be read: {exc}")], "fleet") from exc
    try:
        plan = msgspec.convert(found, FleetPlan)
    except msgspec.ValidationError as exc:
        raise BadInput([Problem(str(path), str(exc))], "fleet") from exc
    if problems := list(_problems(plan)):
        raise BadInput(problems, "fleet")
    return FleetPlan(models=plan.models, hosts=tuple(_each(plan.hosts)))


def _each(hosts: Iterable[HostPlan]) -> Iterator[HostPlan]:
    for host in hosts:
        if host.count == 1:
            yield host
        else:
            for number in range(1, host.count + 1):
                yield msgspec.structs.replace(host, name=f"{host.name}-{number}", count=1)


def _problems(plan: FleetPlan) -> Iterator[Problem]:
    if not plan.models:
        yield Problem("models", "none; at least one [[models]] table is needed")
    if not plan.hosts:
        yield Problem("hosts", "none; at least one [[hosts]] table is needed")
    for kind, rows in (("models", plan.models), ("hosts", plan.hosts)):
        names = [row.name for row in rows]
        twice = sorted({name for name in names if names.count(name) > 1})
        yield from (Problem(kind, f"{name!r} is there twice") for name in twice)
    for number, model in enumerate(plan.models):
        yield from _positive(f"models[{number}]", model, "size_gb", "prefill_tokens_per_s")
        if not 0 <= model.success <= 1:
            yield Problem(f"models[{number}].success", f"{model.success:g}; a share between 0 and 1")
    known = {model.name for model in plan.models}
    for number, host in enumerate(plan.hosts):
        path = f"hosts[{number}]"
        yield from _positive(path, host, "vram_gb", "bandwidth_gb_s", "disk_gb_s", "count", "parallel")
        yield from (
            Problem(f"{path}.models", f"no model {name!r} in this file") for name in host.models if name not in known
        )
    for model in plan.models:
        if plan.hosts and not any(host.holds(model) for host in plan.hosts):
            yield Problem("models", f"{model.name!r} ({model.size_gb:g} GB) fits no host")


def _positive(path: str, row: Struct, *names: str) -> Iterator[Problem]:
    for name in names:
        value = getattr(row, name)
        if not value > 0:
            yield Problem(f"{path}.{name}", f"{value:g}; more than 0 is needed")

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

    [[hosted]]                  # answered by its maker; only checked work goes there
    name = "claude"
    decode_tokens_per_s = 60
    usd_per_mtok = [3.0, 15.0]  # a million tokens that are read, that are written
    success = 0.95
    success_by_tier = {complex = 0.85}

    [checks]                    # of work whose answers are checked (``checked.py``)
    tiers = {trivial = 0.2, standard = 0.6, complex = 0.2}
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from protocol.errors import BadInput, Problem
from protocol.model import Tier

REFERENCE_GB_S: Final = 1_000.0
EFFICIENCY: Final = 0.6
"""Share of the memory bandwidth that decoding reaches."""
OVERHEAD: Final = 1.15
"""Memory that a model takes, as a multiple of its size on disk."""
LOAD_OVERHEAD_S: Final = 0.5
MILLION: Final = 1_000_000
DEFAULT_TIERS: Final[dict[str, float]] = {Tier.TRIVIAL: 0.2, Tier.STANDARD: 0.6, Tier.COMPLEX: 0.2}


class ModelPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that requests ask for."""

    name: str
    size_gb: float
    prefill_tokens_per_s: float = 3_000.0
    success: float = 1.0
    success_by_tier: dict[str, float] = {}
    """Where it differs from ``success``."""

    def passes(self, tier: Tier) -> float:
        """Share of its answers to such work that pass their checks."""
        return self.success_by_tier.get(tier, self.success)


class HostedPlan(ModelPlan, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that its maker runs; ``usd_per_mtok``: a million tokens that are read, and that are written."""

    size_gb: float = 0.0
    decode_tokens_per_s: float = 60.0
    usd_per_mtok: tuple[float, float] = (3.0, 15.0)
    parallel: int = 16


class ChecksPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What checked work is like.

    Attributes:
        tiers: shares of the requests; a tier that is missing has none.
        effort: share of what fails that passes with more effort.
        effort_tokens: times the tokens that more effort writes.
    """

    tiers: dict[str, float] = field(default_factory=lambda: dict(DEFAULT_TIERS))
    effort: float = 0.25
    effort_tokens: float = 2.0


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

    def usd(self, request_s: float, input_tokens: int, output_tokens: int) -> float:
        """What a request costs that takes so long."""
        del input_tokens, output_tokens  # electricity does not count tokens
        return self.usd_per_hour * request_s / 3600

    def holds(self, model: ModelPlan) -> bool:
        """Whether the model could ever answer here."""
        if isinstance(model, HostedPlan):
            return False
        return (not self.models or model.name in self.models) and OVERHEAD * model.size_gb <= self.vram_gb


class MakerPlan(HostPlan, frozen=True, kw_only=True):
    """The machines of a model's maker, as one host: nothing has to be loaded there, and tokens are what is paid for."""

    hosted: HostedPlan

    def load_s(self, model: ModelPlan) -> float:
        """See :class:`HostPlan`."""
        del model
        return 0.0

    def prefill_tokens_per_s(self, model: ModelPlan) -> float:
        """See :class:`HostPlan`."""
        del model
        return self.hosted.prefill_tokens_per_s

    def decode_tokens_per_s(self, model: ModelPlan) -> float:
        """See :class:`HostPlan`."""
        del model
        return self.hosted.decode_tokens_per_s

    def usd(self, request_s: float, input_tokens: int, output_tokens: int) -> float:
        """See :class:`HostPlan`."""
        del request_s
        read, written = self.hosted.usd_per_mtok
        return (read * input_tokens + written * output_tokens) / MILLION

    def holds(self, model: ModelPlan) -> bool:
        """See :class:`HostPlan`."""
        return model.name == self.hosted.name


class FleetPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All machines, each listed once, and all models."""

    models: tuple[ModelPlan, ...]
    hosts: tuple[HostPlan, ...]
    hosted: tuple[HostedPlan, ...] = ()
    checks: ChecksPlan = field(default_factory=ChecksPlan)

    @property
    def makers(self) -> tuple[MakerPlan, ...]:
        """A host for each hosted model."""
        return tuple(MakerPlan(name=each.name, parallel=each.parallel, hosted=each) for each in self.hosted)


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
    return msgspec.structs.replace(plan, hosts=tuple(_each(plan.hosts)))


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
    for kind, rows in (("models", (*plan.models, *plan.hosted)), ("hosts", (*plan.hosts, *plan.makers))):
        names = [row.name for row in rows]
        twice = sorted({name for name in names if names.count(name) > 1})
        yield from (Problem(kind, f"{name!r} is there twice") for name in twice)
    for number, model in enumerate(plan.models):
        yield from _positive(f"models[{number}]", model, "size_gb", "prefill_tokens_per_s")
        yield from _shares(f"models[{number}]", model)
    for number, hosted in enumerate(plan.hosted):
        yield from _positive(f"hosted[{number}]", hosted, "prefill_tokens_per_s", "decode_tokens_per_s", "parallel")
        yield from _shares(f"hosted[{number}]", hosted)
    yield from _tiers("checks.tiers", plan.checks.tiers)
    if not any(plan.checks.tiers.values()):
        yield Problem("checks.tiers", "no work at all")
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


def _shares(path: str, model: ModelPlan) -> Iterator[Problem]:
    if not 0 <= model.success <= 1:
        yield Problem(f"{path}.success", f"{model.success:g}; a share between 0 and 1")
    yield from _tiers(f"{path}.success_by_tier", model.success_by_tier)


def _tiers(path: str, shares: Mapping[str, float]) -> Iterator[Problem]:
    for name, share in shares.items():
        if name not in {*Tier}:
            yield Problem(path, f"no tier {name!r}; one of {', '.join(Tier)}")
        elif not 0 <= share <= 1:
            yield Problem(f"{path}.{name}", f"{share:g}; a share between 0 and 1")


def _positive(path: str, row: Struct, *names: str) -> Iterator[Problem]:
    for name in names:
        value = getattr(row, name)
        if not value > 0:
            yield Problem(f"{path}.{name}", f"{value:g}; more than 0 is needed")

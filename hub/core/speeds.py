"""How fast each model answers on each LLM server, and how much each kind of task asks of it.

Measured where something was measured; before that a guess from sizes and memory bandwidth, which is wrong by a factor
of two and still tells a T4 from an H200. Pure memory: what agents report goes in, seconds come out. Callers: the board
of the scheduler (``hub/core/board.py``) and ``hub/services/results.py``, which reports what attempts have used.
"""

import re
from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from hub.core.measures import Kept, Measure
from hub.core.routing import Requirements
from hub.core.turns import Turns, ended, first, refused
from protocol.machine import GpuReport, HostReport
from protocol.model import EndpointReport, ModelReport

GIGA: Final = 1e9
NEW_WEIGHT: Final = 0.2
"""Weight of a new measurement: about the last ten count."""

BANDWIDTH: Final[tuple[tuple[str, float], ...]] = (
    ("B200", 8_000.0),
    ("H200", 4_800.0),
    ("H100", 3_350.0),
    ("A100", 1_935.0),
    ("MI300", 5_300.0),
    ("RTX 6000 Ada", 960.0),
    ("L40", 864.0),
    ("A6000", 768.0),
    ("A10", 600.0),
    ("L4", 300.0),
    ("T4", 320.0),
    ("V100", 900.0),
    ("5090", 1_792.0),
    ("4090", 1_008.0),
    ("3090", 936.0),
    ("4080", 717.0),
    ("4070", 504.0),
    ("3080", 760.0),
    ("4060", 272.0),
    ("3060", 360.0),
)
"""Memory bandwidth in GB/s by a piece of the GPU's name, from the makers' data sheets; the first that fits counts."""
UNKNOWN_GPU: Final = 400.0
NO_GPU: Final = 40.0
DISK: Final = 1.0
"""GB/s at which weights come from a disk nobody has measured."""
EFFICIENCY: Final = 0.6
"""Share of the bandwidth that decoding reaches in practice."""
PREFILL_FACTOR: Final = 20.0
"""Prompt tokens a server reads in the time it writes one."""
CLOUD_PREFILL, CLOUD_DECODE = 3_000.0, 60.0
CLOUD_USD: Final = 3e-6
"""Price of a token that is read, at an endpoint that is not ours, before anything was paid there."""
OUTPUT_PRICE: Final = 5.0
"""Price of a token that is written, in tokens that are read: so it is with all makers, more or less."""
UNKNOWN_LENGTH: Final = 1.0
UNKNOWN_SIZE: Final = 5 * GIGA
BYTES_PER_PARAMETER: Final = 0.6
"""Of weights as local servers usually have them: four to five bits each."""
_PARAMETERS: Final = re.compile(r"(?<![a-z0-9.])(?:(\d{1,2})x)?(\d{1,4}(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)

ServerKey = tuple[str, str]
"""The host that reports an endpoint (empty: people have added it), and the endpoint's id; ``id@agent`` for a second
server under that id on the same host (:meth:`hub.core.fleet.Fleet.server_of`)."""


def endpoint_of(server: ServerKey) -> str:
    """What the agents call it that have it."""
    return server[1].partition("@")[0]


class Speed(Struct, frozen=True):
    """What to expect of one model on one server."""

    load_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    is_measured: bool = False
    used_at: float = float("-inf")
    """When it was last used, in seconds of the monotonic clock."""


class Demand(Struct, frozen=True):
    """What one attempt of a kind of task asks of a model: tokens in all its requests together; and of its agent."""

    input_tokens: float
    output_tokens: float
    verify_s: float = 0.0
    """Tools and checks."""
    kind: str = ""
    bucket: int = 0
    """Tokens of its prompt, as :func:`hub.core.routing.context_bucket` rounds them."""
    context: int = 0
    """Context that its requests need, prompt and answer."""
    repo: str = ""
    """The repository it works in, as :class:`hub.core.routing.Requirements` names it."""
    topic: str = ""
    """What outcomes are learnt about (``hub/core/outcomes.py``)."""


FIRST_DEMAND: Final[dict[str, Demand]] = {"chat": Demand(800.0, 400.0), "agent": Demand(12_000.0, 2_000.0)}
"""By executor, before any task of the kind has ended."""
OTHER_DEMAND: Final = Demand(2_000.0, 500.0)


def expected(
    endpoint: EndpointReport, model: ModelReport | None, host: HostReport | None, disk_gb_s: float = DISK
) -> Speed:
    """What to expect of a model that nobody has used there yet.

    Args:
        endpoint, model, host: as their sidecar reports them.
        disk_gb_s: at which weights are read.
    """
    if not endpoint.local:
        return Speed(0.0, CLOUD_PREFILL, CLOUD_DECODE)
    size = size_of(model)
    decode = _bandwidth(host.gpus if host else ()) * GIGA * EFFICIENCY / size
    if model and model.tokens_per_s:
        decode = model.tokens_per_s
    return Speed(size / (disk_gb_s * GIGA), decode * PREFILL_FACTOR, decode)


REUSE: Final = 0.9
"""Share of a known beginning that a server of ours does not read again, before anybody has seen it do so."""
LONGEST_S: Final = 1e7
"""Seconds of work that can be true; more is what a server has made up."""


def size_of(model: ModelReport | None) -> float:
    """Bytes of a model on disk, or a guess."""
    return float(model.size_bytes or guessed_size(model.name)) if model else UNKNOWN_SIZE


def guessed_size(name: str) -> float:
    """Bytes of weights by the name of a model, or a guess."""
    return named_size(name) or UNKNOWN_SIZE


def named_size(name: str) -> float:
    """Bytes of weights by what the name says of the parameters: ``qwen3:8b``, ``smollm2:135m``; 0: it says nothing."""
    found = _PARAMETERS.search(name)
    if found is None:
        return 0.0
    times, number, unit = found.groups()
    return float(times or 1) * float(number) * (1e9 if unit in "bB" else 1e6) * BYTES_PER_PARAMETER


def _bandwidth(gpus: tuple[GpuReport, ...]) -> float:
    """GB/s of the best GPU; of main memory if there is none."""
    known = [next((gb_s for piece, gb_s in BANDWIDTH if piece in gpu.name), UNKNOWN_GPU) for gpu in gpus]
    return max(known, default=NO_GPU)


class Speeds:
    """What was measured, by server and model, and by kind of task."""

    def __init__(self) -> None:
        self._speeds = Kept("speed", Speed, afresh=lambda speed: replace(speed, used_at=float("-inf")))
        self._disks = Kept("disk", float)
        self._demands = Kept("demand", Demand)
        self._lengths = Kept("length", float)
        self._prices = Kept("price", float)
        self._turns = Kept("turns", Turns)
        self._reuses = Kept("reuse", float)
        self._uses = Kept("use", int)
        learnt = self._speeds, self._disks, self._demands, self._lengths, self._prices, self._turns, self._reuses
        every = *learnt, self._uses
        self._all = {kept.about: kept for kept in every}
        self._any_disk = DISK

    def changes(self) -> list[Measure]:
        """What has changed since this was last asked, to be stored."""
        return [measure for kept in self._all.values() for measure in kept.changes()]

    def recall(self, measures: Iterable[Measure]) -> None:
        """What earlier hubs have stored, oldest first."""
        for measure in measures:
            if (kept := self._all.get(measure.about)) is not None:
                kept.recall(measure)
                if measure.about == "disk":
                    self._any_disk = self._disks.newest or DISK

    def of(
        self, server: ServerKey, endpoint: EndpointReport, model: ModelReport | None, host: HostReport | None
    ) -> Speed:
        """What to expect of ``model`` (``None``: the endpoint does not list it) on this server."""
        found = self._speeds.get(*server, model.name if model else "")
        if found is not None:
            return found
        return expected(endpoint, model, host, self._disks.get(*server) or self._any_disk)

    def written_per_s(self, server: ServerKey, name: str) -> float | None:
        """Tokens that a model was measured to write there a second; ``None``: it never was."""
        found = self._speeds.get(*server, name)
        return found.decode_tokens_per_s if found is not None and found.is_measured else None

    def saw_use(self, server: ServerKey, name: str, at_ms: int) -> None:
        """Work has used a model on a server (Unix milliseconds); remembered over restarts."""
        self._uses.put(at_ms, *server, name)
        self._uses.put(at_ms, *server, "")

    def last_use_ms(self, server: ServerKey, name: str = "") -> int | None:
        """When work used a model there last, or any model of the server; ``None``: nobody knows of any."""
        return self._uses.get(*server, name)

    def demand(self, kind: str, executor: str) -> Demand:
        """What a task of ``kind`` (the text of its class) will ask for."""
        return self._demands.get(kind) or FIRST_DEMAND.get(executor, OTHER_DEMAND)

    def asked(self, requirements: Requirements, kind: str) -> Demand:
        """What a task with these requirements will ask for; ``kind``: theirs."""
        return replace(
            self.demand(kind, requirements.executor),
            kind=kind,
            bucket=requirements.context,
            context=requirements.tokens,
            repo=requirements.repo,
            topic=requirements.topic,
        )

    def used(self, kind: str, input_tokens: int, output_tokens: int, verify_s: float = 0.0) -> None:
        """An attempt of ``kind`` has used so many tokens, and so much time beside its model."""
        was = self._demands.get(kind)
        now = Demand(float(input_tokens), float(output_tokens), verify_s)
        if was is not None:
            read, written = _mixed(was.input_tokens, input_tokens), _mixed(was.output_tokens, output_tokens)
            now = Demand(read, written, _mixed(was.verify_s, verify_s))
        self._demands.put(now, kind)

    def lasts(self, kind: str) -> float:
        """Seconds that an attempt of ``kind`` takes which needs no model."""
        return self._lengths.get(kind) or UNKNOWN_LENGTH

    def lasted(self, kind: str, seconds: float) -> None:
        """An attempt of ``kind`` has taken so long."""
        self._lengths.put(_mixed(self._lengths.get(kind) or seconds, seconds), kind)

    def usd(self, server: ServerKey, endpoint: EndpointReport, name: str, demand: Demand) -> float:
        """What so many tokens will cost there, in US dollars."""
        known = self._prices.get(*server, name)
        rate = known if known is not None else 0.0 if endpoint.local else CLOUD_USD
        return rate * (demand.input_tokens + OUTPUT_PRICE * demand.output_tokens)

    def paid(self, server: ServerKey, name: str, cost_usd: float, tokens: tuple[int, int]) -> None:
        """So many tokens that were read and written have cost so much."""
        if (weight := tokens[0] + OUTPUT_PRICE * tokens[1]) > 0:
            rate = cost_usd / weight
            known = self._prices.get(*server, name)
            self._prices.put(rate if known is None else _mixed(known, rate), *server, name)

    def reuse(self, server: ServerKey, endpoint: EndpointReport) -> float:
        """Share of what a server has read of a prompt before that it does not read again."""
        known = self._reuses.get(*server)
        return known if known is not None else REUSE if endpoint.local else 0.0

    def reused(self, server: ServerKey, endpoint: EndpointReport, known_tokens: int, cached_tokens: float) -> None:
        """Of so many tokens that a server had read before it has taken so many from its memory."""
        share = min(1.0, max(0.0, cached_tokens / known_tokens))
        self._reuses.put(_mixed(self.reuse(server, endpoint), share), *server)

    def turns(self, server: ServerKey, endpoint: EndpointReport) -> Turns:
        """How many requests at a time the server takes, as far as is known."""
        known = self._turns.get(*server)
        return known if known is not None and known.told == endpoint.parallel else first(endpoint)

    def knows_turns(self, server: ServerKey) -> bool:
        """Whether anything was seen of how many requests at a time the server takes."""
        return self._turns.get(*server) is not None

    def answered(
        self, server: ServerKey, endpoint: EndpointReport, crowd: int, *, queue_s: float | None, model_s: float
    ) -> None:
        """An attempt has ended there; see :func:`hub.core.turns.ended`."""
        before = self.turns(server, endpoint)
        if (now := ended(before, endpoint, crowd, queue_s=queue_s, model_s=model_s)) != before:
            self._turns.put(now, *server)

    def refused(self, server: ServerKey, endpoint: EndpointReport) -> None:
        """The server would not take a request."""
        self._turns.put(refused(self.turns(server, endpoint)), *server)

    def took(
        self,
        server: ServerKey,
        name: str,
        before: Speed,
        *,
        at: float = 0.0,
        size_bytes: float = UNKNOWN_SIZE,
        load_s: float | None = None,
        prefill: tuple[int, float] | None = None,
        decode: tuple[int, float] | None = None,
    ) -> None:
        """A request was measured.

        Args:
            server, name: where, and with which model.
            before: what was expected; kept for what was not measured now.
            at: when it ended, in seconds of the monotonic clock.
            size_bytes: of the model; its load tells how fast the disk is, for the other models there.
            load_s: seconds until the model was in memory, if it was not.
            prefill, decode: tokens read and written, and the seconds that each took.
        """
        was = self._speeds.get(*server, name) or before
        now = Speed(
            was.load_s if load_s is None else _learnt(was, was.load_s, load_s),
            _rate(was, was.prefill_tokens_per_s, prefill),
            _rate(was, was.decode_tokens_per_s, decode),
            is_measured=True,
            used_at=at,
        )
        self._speeds.put(now, *server, name)
        if load_s:
            rate = size_bytes / load_s / GIGA
            self._any_disk = _mixed(self._any_disk, rate) if len(self._disks) else rate
            self._disks.put(_mixed(self._disks.get(*server) or rate, rate), *server)


def _rate(was: Speed, rate: float, measured: tuple[int, float] | None) -> float:
    if measured is None or measured[0] <= 0 or not 0 < measured[1] < LONGEST_S:
        return rate
    # Means of seconds a token, not of tokens a second: one slow answer costs what it costs.
    return 1.0 / _learnt(was, 1.0 / rate, measured[1] / measured[0])


def _learnt(was: Speed, old: float, new: float) -> float:
    return _mixed(old, new) if was.is_measured else new


def _mixed(old: float, new: float) -> float:
    return old + NEW_WEIGHT * (new - old)

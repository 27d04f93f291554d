"""Read requests from a trace: when they came, how much they read and wrote.

Two forms: CSV with the columns ``TIMESTAMP, ContextTokens, GeneratedTokens`` (the Azure LLM inference traces), and JSON
lines with ``timestamp`` (ms), ``input_length``, ``output_length`` and, if there, ``hash_ids`` of prompt blocks (the
Mooncake traces). Neither names a model: each request draws one, by a seeded Zipf, unless its line has ``model``.
"""

import csv
import json
import random
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from hub.core.prefixes import Blocks
from hub.simulate.fleet import FleetPlan, ModelPlan
from protocol.errors import BadInput, Problem

ZIPF: Final = 1.0
"""Exponent: the second model is wanted half as often as the first."""


class Job(Struct, frozen=True, kw_only=True):
    """A request: ``at_s`` after the first one, for ``model``."""

    number: int
    at_s: float
    input_tokens: int
    output_tokens: int
    model: ModelPlan
    blocks: Blocks = ()
    """``hash_ids``: each stands for as many tokens as a block of :mod:`hub.core.prefixes`."""
    is_good: bool = True
    """Whether the answer passes its checks."""


def read_trace(
    path: Path, fleet: FleetPlan, *, seed: int, limit: int | None = None, load: float | None = None
) -> list[Job]:
    """The requests of a trace in the order they came.

    Args:
        path: ``.csv`` or ``.jsonl``.
        fleet: whose models are drawn.
        seed: of the draw.
        limit: only so many, from the beginning.
        load: stretch the arrivals so that the fleet is busy for this share of the time (0.7); ``None``: as they came.
    Raises:
        BadInput: it cannot be read; the line is named.
    """
    source = random.Random(seed)
    weights = [1.0 / (rank + 1) ** ZIPF for rank in range(len(fleet.models))]
    by_name = {model.name: model for model in fleet.models}
    jobs: list[Job] = []
    first: float | None = None
    for number, row in enumerate(_rows(path)):
        if limit is not None and number >= limit:
            break
        try:
            at_s, read, written, blocks, name = row()
            drawn = source.choices(fleet.models, weights)[0]
            model = by_name[name] if name else drawn
        except (KeyError, ValueError, TypeError) as exc:
            problem = Problem(f"{path}, request {number + 1}", f"cannot be understood: {exc!r}")
            raise BadInput([problem], "trace") from exc
        first = at_s if first is None else first
        jobs.append(
            Job(
                number=number,
                at_s=at_s - first,
                input_tokens=read,
                output_tokens=written,
                model=model,
                blocks=blocks,
                is_good=source.random() < model.success,
            )
        )
    if not jobs:
        raise BadInput([Problem(str(path), "no requests in it")], "trace")
    jobs.sort(key=lambda job: (job.at_s, job.number))
    return jobs if load is None else stretched(jobs, fleet, load)


Row = tuple[float, int, int, tuple[int, ...], str]


def _rows(path: Path) -> "Iterator[Any]":
    try:
        with path.open(encoding="utf-8", newline="") as file:
            if path.suffix == ".csv":
                for fields in csv.DictReader(file):
                    yield lambda fields=fields: _azure(fields)
            else:
                for line in file:
                    if line.strip():
                        yield lambda line=line: _mooncake(json.loads(line))
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput([Problem(str(path), f"cannot be read: {exc}")], "trace") from exc


def _azure(fields: dict[str, str]) -> Row:
    at = datetime.fromisoformat(fields["TIMESTAMP"][:26])
    return at.timestamp(), int(fields["ContextTokens"]), int(fields["GeneratedTokens"]), (), fields.get("model", "")


def _mooncake(found: dict[str, Any]) -> Row:
    blocks = tuple(int(block) for block in found.get("hash_ids", ()))
    return (
        found["timestamp"] / 1000,
        int(found["input_length"]),
        int(found["output_length"]),
        blocks,
        found.get("model", ""),
    )


def stretched(jobs: Sequence[Job], fleet: FleetPlan, load: float) -> list[Job]:
    """The same requests, slower or faster: a fleet that never loads a model would be busy ``load`` of the time."""
    span_s = jobs[-1].at_s or 1.0
    factor = ideal_s(jobs, fleet) / load / span_s
    return [replace(job, at_s=job.at_s * factor) for job in jobs]


def ideal_s(jobs: Sequence[Job], fleet: FleetPlan) -> float:
    """Seconds that the whole fleet needs for all requests if every machine is always busy and nothing is ever loaded.

    Work that is shared in the best way takes at least this long, whatever the order: each machine is credited with
    the fastest machine's time for what it does.
    """
    fastest = max(fleet.hosts, key=lambda host: host.bandwidth_gb_s)
    work_s = sum(fastest.service_s(job.model, job.input_tokens, job.output_tokens) for job in jobs)
    return work_s / sum(host.parallel * host.bandwidth_gb_s / fastest.bandwidth_gb_s for host in fleet.hosts)

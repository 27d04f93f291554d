"""Count the event log again, by hand: what ``/metrics`` has to say of it, from what ``GET /api/v1/events`` tells.

Nothing of the hub is used for counting. With it come light sidecars whose work ends in every way.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from msgspec.structs import replace

from agentcom.bench.light import LightSidecar
from protocol.ids import made_ms
from protocol.machine import CpuReport, GpuReport, HostReport, SpaceReport
from protocol.messages import Accept, Assign, Heartbeat, Hello, Report
from protocol.model import AttemptState, FailureClass, TaskResult, Timing, Usage

Plain = dict[str, Any]
Key = tuple[str, tuple[str, ...]]
"""Name of a sample, and the values of its labels in the order of their names."""

_SAMPLE: Final = re.compile(r"^(agentcom_\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ENDS: Final = ("completed", "failed", "dead", "cancelled")
_OVER: Final = frozenset({f"task_{end}" for end in _ENDS} | {"task_requeued", "task_waiting"})
COUNTED: Final = re.compile(
    r"agentcom_(events|tasks_submitted|tasks_ended|leases_lost|retries|task_failures|verifications|tokens|cost_usd"
    r"|model_attempts|claims|attempts_ended)_total|agentcom_task_seconds_(count|sum)"
)
"""The samples that are those of the log."""


def told(text: str) -> dict[Key, float]:
    """The samples of a text of metrics."""
    found = {}
    for name, labels, value in _SAMPLE.findall(text):
        found[name, tuple(value for _, value in sorted(_LABEL.findall(labels)))] = float(value)
    return found


def recounted(events: Iterable[Plain]) -> dict[Key, float]:
    """What the counts have to be, by the log of a hub that was never restarted; the ones that are zero are left out."""
    count: defaultdict[Key, float] = defaultdict(float)
    seconds: dict[tuple[str, str], int] = {}  # milliseconds at which a task was queued, was given away, began
    for event in events:
        kind, task, facts = event["kind"], event["task"] or "", event["facts"]
        at_ms = _ms(event["at"])
        count["agentcom_events_total", (kind,)] += 1
        if kind == "task_queued" and "by" in facts:
            count["agentcom_tasks_submitted_total", ()] += 1
        elif kind == "task_ready":  # its pause before the next attempt is over
            seconds[task, "again"] = at_ms
        elif kind == "attempt_lost":
            count["agentcom_leases_lost_total", ()] += 1
        elif kind == "task_assigned":
            count["agentcom_claims_total", ()] += 1
            _took(count, "queue", at_ms - seconds.pop((task, "again"), made_ms(task)))
            seconds[task, "given"] = at_ms
        elif kind == "task_started":
            _took(count, "place", at_ms - seconds.pop((task, "given")))
            seconds[task, "begun"] = at_ms
        elif kind in _OVER:
            _ended(count, seconds, kind.removeprefix("task_"), task, at_ms, facts)
    return {key: value for key, value in count.items() if value}


def _ended(
    count: defaultdict[Key, float], seconds: dict[tuple[str, str], int], end: str, task: str, at_ms: int, facts: Plain
) -> None:
    failure = str(facts.get("failure", "unknown"))
    if (begun_ms := seconds.pop((task, "begun"), None)) is not None:
        _took(count, "execute", at_ms - begun_ms)
    if "execution_ok" in facts:
        count["agentcom_attempts_ended_total", ("queued" if end == "requeued" else end,)] += 1
        verdict = {None: "none", True: "passed", False: "failed"}[facts.get("verified")]
        count["agentcom_verifications_total", (verdict,)] += 1
        _used(count, facts)
    if end == "requeued":
        count["agentcom_retries_total", (failure,)] += 1
        seconds[task, "again"] = facts.get("ready_ms") or at_ms
    if end in _ENDS:
        count["agentcom_tasks_ended_total", (end,)] += 1
    if end in {"completed", "failed", "dead"}:
        _took(count, "total", at_ms - made_ms(task))
    if end in {"failed", "dead"}:
        count["agentcom_task_failures_total", (failure, end)] += 1


def _used(count: defaultdict[Key, float], facts: Plain) -> None:
    model = facts.get("model", "none")
    if model == "none":
        return
    count["agentcom_model_attempts_total", (model,)] += 1
    count["agentcom_tokens_total", ("input", model)] += facts["input_tokens"]
    count["agentcom_tokens_total", ("output", model)] += facts["output_tokens"]
    count["agentcom_cost_usd_total", (model,)] += facts["cost_usd"]
    if facts.get("load_s") is not None:
        _took(count, "load", round(facts["load_s"] * 1000))


def _took(count: defaultdict[Key, float], phase: str, ms: int) -> None:
    count["agentcom_task_seconds_count", (phase,)] += 1
    count["agentcom_task_seconds_sum", (phase,)] += max(0, ms) / 1000


def _ms(at: str) -> int:
    return round(datetime.fromisoformat(at).timestamp() * 1000)


def differences(text: str, events: Iterable[Plain]) -> list[str]:
    """Where the metrics and the log do not say the same; nothing if they do, to the last task."""
    ours = recounted(events)
    theirs = {key: value for key, value in told(text).items() if COUNTED.fullmatch(key[0]) and value}
    return [
        f"{key[0]}{key[1]}: {theirs.get(key, 0)}, by the log {ours.get(key, 0)}"
        for key in sorted({*ours, *theirs})
        if not math.isclose(theirs.get(key, 0), ours.get(key, 0), rel_tol=1e-9, abs_tol=1e-9)  # sums of parts
    ]


# --- sidecars ---------------------------------------------------------------------------------------------------------


class Moody(LightSidecar):
    """A machine with two GPUs whose work ends in every way; which one, the id of a task and its attempt decide."""

    def hello(self) -> Hello:
        """See :class:`LightSidecar`."""
        return replace(super().hello(), host=f"{self.name}.example.org")

    def heartbeat(self) -> Heartbeat:
        """With all that there is to say of a machine."""
        return replace(super().heartbeat(), host=_machine())

    def work(self, assign: Assign) -> Iterator[Accept | Report]:
        """It ends at once."""
        yield Accept(attempt=assign.attempt)
        mood = ord(assign.attempt.task[-1]) + assign.attempt.epoch
        yield Report(attempt=assign.attempt, **_OUTCOMES[mood % len(_OUTCOMES)])


def _outcome(model: str = "none", *, failure: FailureClass | None = None, verified: bool | None = None) -> Plain:
    usage = Usage()
    if model != "none":
        timing = Timing(model_s=2.0, load_s=1.25)
        usage = Usage(model=model, input_tokens=1_200, output_tokens=34, cost_usd=0.0125, timing=timing)
    result = TaskResult(execution_ok=failure is None, verified=verified, usage=usage)
    return {"state": AttemptState.FAILED if failure else AttemptState.PASSED, "result": result, "failure": failure}


_OUTCOMES: Final = (
    _outcome(),
    _outcome("small"),
    _outcome("large", verified=True),
    _outcome("large", failure=FailureClass.VERIFY, verified=False),
    _outcome(failure=FailureClass.AGENT),
    _outcome(),
    _outcome("small"),
    _outcome(failure=FailureClass.INPUT),
)


def _machine() -> HostReport:
    gpu = GpuReport(
        name="RTX 4090", vram_total_bytes=24 << 30, vram_used_bytes=9 << 30, utilization=55.5, temperature_c=61.5
    )
    return HostReport(
        cpu=CpuReport(percent=12.5, cores=16),
        ram=SpaceReport(total_bytes=64 << 30, used_bytes=21 << 30),
        disk=SpaceReport(total_bytes=1 << 40, used_bytes=1 << 39),
        gpus=(gpu, gpu),
        at=datetime.now(UTC),
    )

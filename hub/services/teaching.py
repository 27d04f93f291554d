"""Keep how checked work ended: which model passed which class of tasks, and what it cost.

Counted once the end of the attempt is stored, so a report that comes twice teaches once. Only work whose checks ran
teaches, and work that a model gave up; what the machinery lost says nothing about a model. What is counted is in memory
(``hub/core/outcomes.py``) and in the store at once; a restarted hub begins with it.
"""

import contextlib
from collections.abc import Iterable
from typing import Final

import msgspec

from hub.core.agent import Held
from hub.core.measures import Measure
from hub.core.outcomes import MAX_RECORDS, Outcome, Outcomes, Record, stage_of
from hub.core.routing import requirements_of
from hub.store.changes import Finish
from hub.store.hub_changes import KeepMeasures
from hub.store.store import Store
from protocol import codec
from protocol.model import FailureClass, TaskResult

ABOUT: Final = "outcome"
_SPLIT: Final = "\x1f"
_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Record)


def remembered(measures: Iterable[Measure]) -> Outcomes:
    """What an earlier hub has learnt. A record that nobody can read any more is left out: it will be learnt again."""
    outcomes = Outcomes()
    for measure in measures:
        if measure.about == ABOUT:
            with contextlib.suppress(msgspec.DecodeError):
                outcomes.put(_decoder.decode(measure.value))
    return outcomes


class Teaching:
    """The use case of an attempt that ended with checked work."""

    def __init__(self, store: Store, outcomes: Outcomes, *, is_on: bool = True) -> None:
        self._store, self._outcomes, self._is_on = store, outcomes, is_on

    def checked(self, held: Held, change: Finish) -> None:
        """The end of an attempt with a model is stored."""
        requirements = requirements_of(held.kind) if held.kind and self._is_on else None
        if requirements is None or not requirements.topic or change.result is None:
            return
        result = codec.decode_result(change.result)
        passed = _passed(result, change.failure)
        if passed is None or not held.model:
            return
        usage = result.usage
        outcome = Outcome(
            passed=passed,
            seconds=usage.seconds,
            usd=usage.cost_usd or 0.0,
            tokens=usage.input_tokens + usage.output_tokens,
        )
        was = self._outcomes.record(requirements.topic, held.model, stage_of(requirements.rung))
        record = was.plus(outcome, change.at_ms)
        self._outcomes.put(record)
        measure = Measure(ABOUT, _SPLIT.join(record.key), _encoder.encode(record))
        self._store.post(KeepMeasures(at_ms=change.at_ms, measures=(measure,), most=MAX_RECORDS))


def _passed(result: TaskResult, failure: FailureClass | None) -> bool | None:
    """Whether the work was good; ``None``: nobody can tell."""
    if failure in {FailureClass.VERIFY, FailureClass.AGENT}:
        return False
    return True if failure is None and result.verified else None

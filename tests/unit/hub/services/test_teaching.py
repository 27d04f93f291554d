"""What the end of checked work teaches: chances of its model, kept over a restart; nothing if nobody can tell."""

import pytest
from msgspec import msgpack

from hub.core.agent import Held
from hub.core.measures import Measure
from hub.core.outcomes import FIRST, HARDER, Outcomes, Record
from hub.core.routing import Requirements
from hub.services.teaching import ABOUT, Teaching, remembered
from hub.store.changes import Finish
from hub.store.sqlite import SqliteStore
from protocol import codec
from protocol.choice import Effort, Rung
from protocol.model import AttemptState, FailureClass, Strategy, TaskResult, TaskState, Usage

TOPIC = "chat/standard/any"
KIND = Requirements(executor="chat", strategies=(Strategy.LOCAL_LLM,), topic=TOPIC)
RUNG = Rung(number=1, tier="standard", model="m", effort=Effort.HIGH)


def ended(*, verified: bool | None = True, failure: FailureClass | None = None) -> Finish:
    usage = Usage(model="m", input_tokens=90, output_tokens=10, cost_usd=0.5, seconds=7.0)
    result = TaskResult(execution_ok=True, verified=verified, usage=usage)
    return Finish(
        at_ms=5,
        task="t",
        epoch=1,
        attempt=AttemptState.PASSED,
        next=TaskState.COMPLETED,
        retries=0,
        infra_failures=0,
        failure=failure,
        result=codec.encode_result(result),
    )


def held(kind: Requirements = KIND, model: str = "m") -> Held:
    return Held("t", 1, "a", 1, 0.0, model=model, kind=kind.text)


async def test_what_was_learnt_is_there_after_a_restart() -> None:
    store = SqliteStore(":memory:")
    await store.open()
    teaching = Teaching(store, Outcomes())
    teaching.checked(held(), ended())
    teaching.checked(held(), ended(verified=False, failure=FailureClass.VERIFY))
    start = await store.start(1)
    await store.close()

    record = remembered(start.measures).record(TOPIC, "m", FIRST)
    assert (record.fails, record.seconds, record.usd, record.tokens) == pytest.approx((1.0, 7.0, 0.5, 100.0))
    assert 0.9 < record.passes < 1.0


def test_a_record_that_cannot_be_read_is_left_out() -> None:
    good = Record(topic=TOPIC, model="m", stage=FIRST, passes=2.0)
    kept = [Measure(ABOUT, "a", b"\xc1"), Measure("speed", "b", b"\xc1"), Measure(ABOUT, "c", msgpack.encode(good))]

    assert remembered(kept).record(TOPIC, "m", FIRST).passes == 2.0


@pytest.mark.parametrize(
    "attempt, end, weight",
    [
        (held(), ended(), 1.0),
        (held(), ended(failure=FailureClass.AGENT), 1.0),
        (held(), ended(verified=None), 0.0),
        (held(), ended(failure=FailureClass.QUOTA), 0.0),
        (held(), ended(failure=FailureClass.INFRA), 0.0),
        (held(Requirements(executor="shell", strategies=(Strategy.TRIVIAL,))), ended(), 0.0),
        (held(model=""), ended(), 0.0),
    ],
    ids=["passed", "gave up", "unchecked", "quota", "lost", "no model", "unknown model"],
)
async def test_only_work_that_says_something_about_its_model_teaches(attempt: Held, end: Finish, weight: float) -> None:
    outcomes = Outcomes()
    Teaching(SqliteStore(":memory:"), outcomes).checked(attempt, end)

    assert outcomes.record(TOPIC, "m", FIRST).weight == weight


async def test_a_rung_is_learnt_about_by_itself_and_nothing_if_it_is_off() -> None:
    outcomes = Outcomes()
    climbed = held(Requirements(executor="chat", strategies=KIND.strategies, topic=TOPIC, rung=RUNG))
    Teaching(SqliteStore(":memory:"), outcomes).checked(climbed, ended())
    Teaching(SqliteStore(":memory:"), outcomes, is_on=False).checked(held(), ended())

    assert outcomes.record(TOPIC, "m", HARDER).weight == 1.0
    assert outcomes.record(TOPIC, "m", FIRST).weight == 0.0

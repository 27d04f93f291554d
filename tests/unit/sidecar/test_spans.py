"""The promises of spans of the work on a machine."""

import asyncio

import pytest

from protocol.errors import ModelFailed
from protocol.traces import Place, Span
from sidecar import spans
from sidecar.spans import Recorder, headers, span, within


class HandClock:
    def now_ms(self) -> int:
        return 1_000

    def monotonic(self) -> float:
        return 1.0


GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def told() -> list[Span]:
    return []


@pytest.fixture
def recorder(told: list[Span]) -> Recorder:
    return Recorder(HandClock(), told.append)


async def test_spans_lie_in_one_another_also_over_tasks(recorder: Recorder, told: list[Span]) -> None:
    async def call() -> None:
        with span("chat m", {"x": 1, "none": None}, kind="client") as facts:
            facts["y"] = 2

    with within(recorder.begin(GIVEN)), span("execute"):
        await asyncio.create_task(call())
    inner, outer = told

    assert (inner.name, inner.kind, inner.facts) == ("chat m", "client", {"x": 1, "y": 2})
    assert (inner.parent, outer.parent) == (outer.place.span, "b7ad6b7169203331")
    assert inner.place.trace == outer.place.trace == "0af7651916cd43dd8448eb211c80319c"
    assert spans.here() is None


def test_what_goes_wrong_is_told_and_goes_on(recorder: Recorder, told: list[Span]) -> None:
    def fail() -> None:
        with within(recorder.begin(GIVEN)), span("execute"):
            raise ModelFailed("no")

    with pytest.raises(ModelFailed):
        fail()

    assert (told[0].problem, told[0].facts) == (ModelFailed.code, {"error.type": ModelFailed.code})


@pytest.mark.parametrize("header", ["", "nonsense", GIVEN[:-1] + "0"])
def test_without_a_place_that_is_told_nothing_is(recorder: Recorder, told: list[Span], header: str) -> None:
    with within(recorder.begin(header)), span("execute") as facts:
        facts["x"] = 1
        assert headers() == {}

    assert told == []
    assert Recorder(HandClock()).begin(GIVEN) is None


def test_servers_of_ours_are_told_where_they_stand(recorder: Recorder) -> None:
    with within(recorder.begin(GIVEN)):
        assert headers() == {"traceparent": str(Place("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"))}

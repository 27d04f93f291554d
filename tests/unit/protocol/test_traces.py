"""The promises of places in traces: what W3C Trace Context says, and ids that everybody makes alike."""

from random import Random

import pytest

from protocol import traces
from protocol.ids import IdMaker, decode
from protocol.traces import Place

TASK = "01hzy0m5k3v8f6c2q9w4e7r1t0"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "header, is_sampled",
    [
        (GIVEN, True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"cc-{TRACE}-{SPAN}-01-more", True),
    ],
)
def test_what_a_header_says_is_read(header: str, is_sampled: bool) -> None:
    assert traces.read(header) == Place(TRACE, SPAN, is_sampled)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-1",
        f" {GIVEN}",
        GIVEN * 1_000,
    ],
)
def test_what_is_no_header_is_left_alone(header: str | None) -> None:
    assert traces.read(header) is None


def test_what_is_written_can_be_read() -> None:
    for place in (Place(TRACE, SPAN), Place(TRACE, SPAN, is_sampled=False)):
        assert traces.read(str(place)) == place


def test_a_task_stays_in_the_trace_it_came_with_and_else_begins_its_own() -> None:
    inside, above = traces.of_task(TASK, GIVEN)
    alone, nothing = traces.of_task(TASK)

    assert (inside.trace, above, inside.is_sampled) == (TRACE, SPAN, True)
    assert (int(alone.trace, 16), nothing) == (decode(TASK), "")
    assert inside.span == alone.span == traces.span_id(TASK)
    assert traces.of_attempt(alone, TASK, 1) != traces.of_attempt(alone, TASK, 2)


def test_a_share_of_the_traces_that_begin_here_is_told_always_the_same() -> None:
    maker = IdMaker(Random(1).getrandbits)
    ids = [maker.make(1_769_860_800_000 + number) for number in range(200)]
    told = [traces.of_task(task, share=0.3)[0].is_sampled for task in ids]

    assert not any(traces.of_task(task, share=0.0)[0].is_sampled for task in ids)
    assert all(traces.of_task(task)[0].is_sampled for task in ids)
    assert told == [traces.of_task(task, share=0.3)[0].is_sampled for task in ids]
    assert 0 < sum(told) < len(told)
    assert traces.of_task(TASK, GIVEN, share=0.0)[0].is_sampled, "whoever has begun the trace has decided"

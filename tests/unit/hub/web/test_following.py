from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hub.store import rows
from hub.web.following import Told, frames
from hub.web.replies import encode
from hub.web.stream import chunk, frame
from protocol.events import Event, EventKind

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=9)
FACTS = st.dictionaries(TEXTS, TEXTS | st.integers(-9, 9) | st.none() | st.booleans(), max_size=2)


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    shared: dict[str, Any] = draw(FACTS)
    return [
        Event(
            kind=draw(st.sampled_from(EventKind)),
            at_ms=draw(st.integers(0, 2**41)),
            seq=seq,
            task=draw(st.none() | st.just("0123456789ABCDEFGHJKMNPQRS") | TEXTS),
            agent=draw(st.none() | st.just("box-1") | TEXTS),
            epoch=draw(st.none() | st.integers(0, 2**40)),
            facts=draw(st.just(shared) | FACTS),
        )
        for seq in range(1, draw(st.integers(1, 5)))
    ]


def event(seq: int, kind: EventKind = EventKind.TASK_QUEUED) -> Event:
    return Event(kind=kind, at_ms=0, seq=seq)


@given(events())
def test_an_event_is_told_byte_for_byte_as_its_view(found: list[Event]) -> None:
    assert frames(found) == b"".join(frame(encode(rows.event(each)), seq=each.seq) for each in found)


def test_those_who_stand_at_the_same_place_are_told_the_same_bytes() -> None:
    told, news = Told(), [event(8), event(9, EventKind.TASK_DEAD)]
    ends = frozenset({EventKind.TASK_DEAD.value})
    first = told.of(9, 7, frozenset(), news)

    assert first == chunk(frames(news))
    assert told.of(9, 7, frozenset(), news) is first
    assert told.of(9, 7, ends, news) == chunk(frames(news[1:]))
    assert told.of(9, 8, frozenset(), news[1:]) == chunk(frames(news[1:]))
    assert told.of(9, 7, frozenset({"task_failed"}), news) == b""


def test_what_was_told_is_kept_for_as_long_as_nothing_else_happens_and_no_more_than_a_few_times() -> None:
    told = Told()
    first = told.of(9, 8, frozenset(), [event(9)])
    assert told.of(10, 8, frozenset(), [event(9), event(10)]) != first

    for after in range(40):
        told.of(50, after, frozenset(), [event(after + 1)])
    assert len(told._made) <= 16

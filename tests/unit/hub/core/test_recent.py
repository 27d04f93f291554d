import pytest

from hub.core.recent import Recent
from protocol.events import Event, EventKind


def events(*numbers: int) -> list[Event]:
    return [Event(kind=EventKind.TASK_QUEUED, at_ms=0, seq=seq) for seq in numbers]


def held(recent: Recent, after: int, limit: int = 100) -> list[int] | None:
    found = recent.behind(after, limit)
    return None if found is None else [event.seq for event in found]


def test_nothing_is_known_before_anything_was_committed() -> None:
    assert held(Recent(), 0) is None


def test_what_lies_behind_is_told_in_order_and_no_more_than_asked_for() -> None:
    recent = Recent()
    recent.add(events(5, 6, 7))
    recent.add([])
    recent.add(events(8, 9))

    assert held(recent, 4) == [5, 6, 7, 8, 9]
    assert held(recent, 6, limit=2) == [7, 8]
    assert held(recent, 9) == []


@pytest.mark.parametrize("after", [0, 3])
def test_a_reader_that_is_further_back_is_sent_to_the_rows(after: int) -> None:
    recent = Recent()
    recent.add(events(5, 6))

    assert held(recent, after) is None


def test_a_reader_that_is_ahead_has_nothing_to_read() -> None:
    recent = Recent()
    recent.add(events(5, 6))

    assert held(recent, 40) == []


def test_a_gap_ends_what_came_before_it() -> None:
    recent = Recent()
    recent.add(events(5, 6))
    recent.add(events(9))

    assert held(recent, 5) is None
    assert held(recent, 7) is None
    assert held(recent, 8) == [9]


def test_old_ones_leave_and_are_not_answered_for() -> None:
    recent = Recent(most=10)
    for seq in range(1, 200, 3):
        recent.add(events(seq, seq + 1, seq + 2))

    assert held(recent, 191) == list(range(192, 202))
    assert held(recent, 150) is None

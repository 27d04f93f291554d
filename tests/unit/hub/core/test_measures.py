"""What is remembered: bounded, told once, and the same after a restart."""

from hub.core.measures import MAX_KEPT, Kept, Measure


def test_what_has_changed_is_told_once() -> None:
    kept = Kept("x", float)
    kept.put(1.0, "a", "b")
    kept.put(2.0, "a", "b")
    (measure,) = kept.changes()

    assert list(kept.changes()) == []
    again = Kept("x", float)
    again.recall(measure)
    assert again.get("a", "b") == 2.0
    assert list(again.changes()) == []  # it is stored already


def test_the_value_that_was_changed_longest_ago_goes_first() -> None:
    kept = Kept("x", float)
    for number in range(MAX_KEPT):
        kept.put(float(number), str(number))
    kept.put(7.0, "0")
    kept.put(8.0, "new")

    assert len(kept) == MAX_KEPT
    assert (kept.get("0"), kept.get("1"), kept.newest) == (7.0, None, 8.0)
    assert len(list(kept.changes())) == MAX_KEPT


def test_what_is_left_after_a_restart_may_be_less() -> None:
    kept = Kept("x", float, afresh=lambda _value: 0.0)
    kept.recall(Measure("x", "a", b"\xcb\x40\x00\x00\x00\x00\x00\x00\x00"))

    assert kept.get("a") == 0.0

"""Who may wait at the door, who makes room, and whose turn it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.core.porch import ANSWER_S, HASTE_S, MAX_AT_ONCE, PATIENCE_S, Caller, Porch, household, plain_address

LONG_AGO, NOW = 0.0, 10.0


def crowd(porch: Porch[Caller], address: str, count: int, at: float = LONG_AGO) -> list[Caller]:
    """So many callers of one address, for whom there was room."""
    callers = [Caller() for _ in range(count)]
    for each in callers:
        assert each not in porch.come(each, address, at)
    return callers


def test_of_too_many_of_one_address_the_one_that_is_silent_longest_makes_room() -> None:
    porch = Porch[Caller](of_address=3)
    spoke, first, _ = crowd(porch, "a", 3)
    porch.heard(spoke, LONG_AGO)

    assert porch.come(Caller(), "a", NOW) == [first]
    assert porch.come(Caller(), "b", NOW) == []
    assert (spoke.waits, first.waits, porch.waiting) == (True, False, 4)


def test_a_fleet_of_one_address_that_comes_at_once_has_room_for_a_moment() -> None:
    porch = Porch[Caller](of_address=3)
    crowd(porch, "a", MAX_AT_ONCE * 3, NOW)
    last = Caller()

    assert porch.come(last, "a", NOW) == [last]
    assert len(porch.late(NOW + HASTE_S, 99)) == MAX_AT_ONCE * 3 - 3
    assert len(porch.late(NOW + PATIENCE_S, 99)) == MAX_AT_ONCE * 3


def test_a_proxy_that_speaks_for_many_is_not_counted_as_one() -> None:
    porch = Porch[Caller](of_address=1, altogether=50)
    callers = [Caller() for _ in range(50)]

    assert [porch.come(each, "proxy", NOW, is_proxy=True) for each in callers] == [[]] * 50
    assert porch.late(NOW + HASTE_S, 99) == []


def test_who_comes_from_an_address_with_few_is_never_kept_out_by_a_crowd_from_another() -> None:
    porch = Porch[Caller](altogether=10)
    few, many = crowd(porch, "few", 2, NOW), crowd(porch, "many", 8, NOW)

    assert porch.come(Caller(), "few", NOW) == [many[0]]
    assert porch.come(one := Caller(), "many", NOW) == [one]
    assert all(each.waits for each in few)


def test_where_all_addresses_have_as_many_only_who_is_there_for_long_makes_room() -> None:
    porch = Porch[Caller](altogether=3)
    first, *_ = (crowd(porch, address, 1, NOW)[0] for address in "abc")

    assert porch.come(late := Caller(), "d", NOW + HASTE_S) == [late]
    assert porch.come(Caller(), "d", NOW + HASTE_S + 0.1) == [first]


def test_addresses_take_turns_in_the_line() -> None:
    porch = Porch[Caller]()
    many, few = crowd(porch, "many", 3), crowd(porch, "few", 1)
    for each in (*many, *few):
        porch.stand_in_line(each, NOW)
    porch.leave(many[1])

    assert [porch.next() for _ in range(4)] == [many[0], few[0], many[2], None]
    assert porch.waiting == 3


def test_each_word_gives_the_time_that_it_takes_and_a_drip_none() -> None:
    porch = Porch[Caller]()
    (caller,) = crowd(porch, "a", 1, NOW)
    assert porch.late(NOW + PATIENCE_S - 0.1, 9) == []
    porch.heard(caller, NOW + 4)
    assert porch.late(NOW + 4 + ANSWER_S - 0.1, 9) == []
    assert porch.late(NOW + 4 + ANSWER_S, 9) == [caller]
    porch.expected(caller, NOW + 10)

    assert porch.late(NOW + 10 + PATIENCE_S, 9) == [caller]
    porch.leave(caller)
    porch.leave(caller)
    porch.heard(caller, NOW)
    porch.expected(caller, NOW)
    porch.stand_in_line(caller, NOW)
    assert (porch.late(NOW + 99, 9), porch.waiting, porch.next(), porch.crowded()) == ([], 0, None, None)


def test_no_more_are_late_at_once_than_can_be_shown_out_at_once() -> None:
    porch = Porch[Caller]()
    callers = crowd(porch, "a", 5)
    assert porch.late(NOW, 2) == callers[:2]
    for each in callers[:2]:
        porch.leave(each)

    assert porch.late(NOW, 9) == callers[2:]


STEPS = st.lists(st.tuples(st.sampled_from("come speak turn answered leave".split()), st.integers(0, 5)), max_size=80)


@given(STEPS)
def test_whatever_they_do_nobody_is_counted_twice_or_forgotten(steps: list[tuple[str, int]]) -> None:
    porch = Porch[Caller](of_address=2, altogether=6)
    here: list[Caller] = []
    for at, (step, number) in enumerate(steps):
        caller = here[number % len(here)] if here else Caller()
        if step == "come":
            new = Caller()
            gone = porch.come(new, f"{number // 2}", float(at) / 4)
            here = [each for each in (*here, new) if each not in gone]
        elif step == "speak":
            porch.stand_in_line(caller, float(at) / 4)
        elif step == "turn":
            turn = porch.next()
            assert turn is None or turn in here
        elif step == "answered":
            porch.expected(caller, float(at) / 4)
        elif here:
            porch.leave(caller)
            here.remove(caller)

        assert porch.waiting == len(here) <= 6
        assert {*porch.callers} == {*here} == {each for each in here if each.waits} == {*porch.late(1e9, 99)}
        assert (porch.crowded() is None) == (not here)


def test_a_household_is_one_address() -> None:
    assert household("192.0.2.7") == "192.0.2.7"
    assert household("::ffff:192.0.2.7") == "192.0.2.7"
    assert household("2001:db8::1") == household("2001:db8::2%eth0") != household("2001:db8:0:1::1")
    assert household("un:known") == "un:known"
    with pytest.raises(ValueError, match="does not appear"):
        plain_address("local")

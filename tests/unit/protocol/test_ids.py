"""The promises of names: ids that sort by time whatever the clock does, and rules for what people call things."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.ids import LABEL, NAME, TASK_ID, IdMaker, decode, encode, slug

TIMES_MS = st.integers(0, 2**48 - 1)


@given(st.integers(0, 2**128 - 1))
def test_an_id_can_be_read_back(number: int) -> None:
    text = encode(number)

    assert decode(text) == number
    assert TASK_ID.fullmatch(text)


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**128 - 1))
def test_ids_sort_as_their_numbers_do(one: int, other: int) -> None:
    assert (encode(one) < encode(other)) == (one < other)


@given(st.lists(TIMES_MS, min_size=2, max_size=50), st.integers(0, 2**32))
def test_ids_of_one_maker_strictly_increase_even_when_the_clock_steps_back(times: list[int], seed: int) -> None:
    maker = IdMaker(random.Random(seed).getrandbits)

    made = [maker.make(now_ms) for now_ms in times]

    assert made == sorted(set(made))


def test_many_ids_of_one_millisecond_differ_and_keep_their_order() -> None:
    maker = IdMaker(random.Random(1).getrandbits)

    made = [maker.make(1_700_000_000_000) for _ in range(5_000)]

    assert made == sorted(set(made))


def test_a_source_without_any_chance_still_makes_different_ids() -> None:
    maker = IdMaker(lambda _bits: 0)

    assert maker.make(5) < maker.make(5) < maker.make(4)


@given(TIMES_MS)
def test_a_maker_that_starts_after_another_makes_no_older_ids(now_ms: int) -> None:
    last = IdMaker(random.Random(1).getrandbits).make(2**47)

    assert IdMaker(random.Random(2).getrandbits, last).make(now_ms) > last


def test_a_later_time_gives_a_larger_id_whatever_the_random_bits_say() -> None:
    late = IdMaker(lambda _bits: 0).make(1_001)
    early = IdMaker(lambda bits: (1 << bits) - 1).make(1_000)

    assert early < late


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8" + "0" * 25,
        "0" * 25,
        "0" * 27,
        "0" * 25 + "u",
        "0" * 25 + "i",
        "0" * 25 + "A",
        " " + "0" * 25,
        "0" * 26 + "\n",
        "\u0660" * 26,
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a task id"):
        decode(text)


@pytest.mark.parametrize("name", ["a", "GSV Sleeper-Service", "box_1.local", "9", "x" * 64])
def test_usable_names_are_taken(name: str) -> None:
    assert NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", " a", "-a", "a/b", "a\nb", "a\x1b[31m", "x" * 65, "é", "../x"])
def test_names_that_would_harm_a_branch_a_header_or_a_terminal_are_not(name: str) -> None:
    assert not NAME.fullmatch(name)


@pytest.mark.parametrize("label, is_one", [("gpu:0", True), ("executor:shell", True), ("", False), ("a b", False)])
def test_a_label_is_one_word(label: str, is_one: bool) -> None:
    assert bool(LABEL.fullmatch(label)) is is_one


@pytest.mark.parametrize(
    "text, piece",
    [
        ("Fix the Parser!", "fix-the-parser"),
        ("  --  ", "task"),
        ("", "task"),
        ("héllo wörld", "h-llo-w-rld"),
        ("a" * 40, "a" * 32),
        ("a" * 31 + " b", "a" * 31),
        ("../../etc/passwd", "etc-passwd"),
    ],
)
def test_a_slug_is_a_safe_piece_of_a_branch_name(text: str, piece: str) -> None:
    assert slug(text) == piece


@given(st.text(max_size=80), st.integers(1, 60))
def test_a_slug_is_always_usable(text: str, limit: int) -> None:
    piece = slug(text, limit)

    assert piece == "task" or len(piece) <= limit
    assert set(piece) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not piece.startswith("-")
    assert not piece.endswith("-")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 300)), max_size=8), st.integers(0, 2**32))
def test_ids_that_are_made_together_increase_like_those_made_one_by_one(
    steps: list[tuple[int, int]], seed: int
) -> None:
    maker, now_ms, made = IdMaker(random.Random(seed).getrandbits), 1_700_000_000_000, list[str]()
    for step_ms, count in steps:
        now_ms += step_ms
        some = maker.several(now_ms, count)
        assert len(some) == count
        made += [*some, maker.make(now_ms)]

    assert made == sorted(set(made))
    assert all(TASK_ID.fullmatch(each) for each in made)


def test_ids_that_run_out_of_room_in_the_midst_go_on() -> None:
    maker = IdMaker(lambda bits: (1 << bits) - 1)  # the largest steps there are
    made = [each for _ in range(4) for each in maker.several(1, 200)]

    assert made == sorted(set(made))

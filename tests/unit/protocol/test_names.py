"""Promises of :mod:`protocol.names`."""

from random import Random

from protocol.ids import NAME, slug
from protocol.names import SHIPS, pick


def test_there_are_enough_names_and_no_two_are_alike() -> None:
    assert len(SHIPS) >= 100
    assert len({name.lower() for name in SHIPS}) == len(SHIPS)


def test_every_name_is_one_that_the_protocol_allows_and_needs_no_quotes() -> None:
    assert [name for name in SHIPS if not NAME.fullmatch(name) or " " in name] == []


def test_every_name_makes_a_branch_name_of_its_own() -> None:
    assert len({slug(name) for name in SHIPS}) == len(SHIPS)


def test_a_taken_name_is_never_picked() -> None:
    left = SHIPS[7]

    assert pick(set(SHIPS) - {left}, Random(1)) == left


def test_the_same_random_source_picks_the_same_name() -> None:
    assert pick((), Random(5)) == pick((), Random(5))


def test_two_sources_seldom_pick_alike() -> None:
    picked = {pick((), Random(seed)) for seed in range(50)}

    assert len(picked) > 30


def test_more_agents_than_ships_get_numbers() -> None:
    taken = set(SHIPS)
    for seed in range(60):
        name = pick(taken, Random(seed))
        assert name not in taken
        assert NAME.fullmatch(name)
        taken.add(name)

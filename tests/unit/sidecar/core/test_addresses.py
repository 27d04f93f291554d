"""The promises about several hubs: the next one at once, a wait only after a whole round, and all of them are known."""

import pytest

from sidecar.core.addresses import Addresses


def dialled(addresses: Addresses, count: int, *, lived: bool = False) -> list[tuple[str, int | None]]:
    """The next addresses, each with the rounds that have failed before it."""
    found = []
    for _ in range(count):
        rounds = addresses.turn(lived=lived)
        found.append((addresses.current, rounds))
        lived = False
    return found


def test_one_address_is_dialled_again_and_again_with_growing_waits() -> None:
    addresses = Addresses(["a"])

    assert addresses.current == "a"
    assert dialled(addresses, 3) == [("a", 0), ("a", 1), ("a", 2)]
    assert dialled(addresses, 2, lived=True) == [("a", 0), ("a", 1)]


def test_the_next_one_is_dialled_at_once_and_only_a_whole_round_is_waited_for() -> None:
    addresses = Addresses(["a", "b", "a", "c"])

    assert addresses.current == "a"
    assert dialled(addresses, 4) == [("b", None), ("c", None), ("a", 0), ("b", None)]
    assert dialled(addresses, 2) == [("c", None), ("a", 1)]
    assert dialled(addresses, 3, lived=True) == [("b", None), ("c", None), ("a", 0)]


def test_hubs_that_a_hub_tells_of_stand_behind_those_that_were_given() -> None:
    addresses = Addresses(["a"])
    addresses.learn(["c", "b", "a"])
    assert dialled(addresses, 3, lived=True) == [("c", None), ("b", None), ("a", 0)]
    addresses.turn(lived=False)
    addresses.learn(["d"])

    assert addresses.current == "c"
    assert dialled(addresses, 3, lived=True) == [("a", None), ("d", None), ("c", 0)]
    addresses.learn([])
    assert [hub for hub, _ in dialled(addresses, 2)] == ["a", "c"]


def test_a_refusal_counts_only_when_all_have_refused() -> None:
    addresses = Addresses(["a", "b"])

    assert not addresses.refused()
    addresses.turn(lived=False)
    assert addresses.refused()
    addresses.learn(["c"])
    assert not addresses.refused()


def test_without_an_address_there_is_nothing_to_dial() -> None:
    with pytest.raises(ValueError, match="at least one address is needed"):
        Addresses([])


@pytest.mark.parametrize(
    "given, told, is_dialled",
    [
        ("http://10.0.0.1:7420", "http://10.0.0.2:7420", True),
        ("http://10.0.0.1:7420", "http://127.0.0.1:7421", False),
        ("http://10.0.0.1:7420", "http://localhost:7421", False),
        ("http://10.0.0.1:7420", "http://[::1]:7421", False),
        ("http://127.0.0.1:7420", "http://127.0.0.1:7421", True),
        ("https://hub.example", "http://10.0.0.2:7420", False),
        ("http://10.0.0.1:7420", "https://hub.example", True),
    ],
)
def test_the_token_is_shown_at_no_address_that_is_less_safe_than_the_one_that_told_it(
    given: str, told: str, is_dialled: bool
) -> None:
    addresses = Addresses([given])
    addresses.learn([told])
    addresses.turn(lived=True)

    assert addresses.current == (told if is_dialled else given)

import pytest

from hub.chance import Chance


@pytest.mark.parametrize("bits", [0, 1, 7, 8, 9, 80, 4096 * 8, 4096 * 8 + 1])
def test_a_number_has_no_more_bits_than_were_asked_for(bits: int) -> None:
    chance = Chance()

    assert all(0 <= chance.getrandbits(bits) < 2**bits for _ in range(50))


def test_no_piece_of_a_page_is_given_out_twice() -> None:
    chance = Chance()

    drawn = [chance.getrandbits(80) for _ in range(5_000)]
    assert len(set(drawn)) == len(drawn)


def test_every_bit_is_drawn() -> None:
    chance = Chance()
    ones = zeros = 0
    for _ in range(300):
        drawn = chance.getrandbits(80)
        ones |= drawn
        zeros |= ~drawn & (2**80 - 1)

    assert ones == zeros == 2**80 - 1


def test_numbers_lie_from_0_to_1() -> None:
    chance = Chance()

    drawn = [chance.random() for _ in range(1_000)]
    assert all(0.0 <= number < 1.0 for number in drawn)
    assert 0.4 < sum(drawn) / len(drawn) < 0.6


def test_a_negative_number_of_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        Chance().getrandbits(-1)

"""The promise of versions: two peers settle on the newest one both speak, or learn who has to upgrade."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import VersionMismatch
from protocol.version import NEWEST, OLDEST, negotiate

RANGES = st.tuples(st.integers(1, 9), st.integers(0, 9)).map(lambda r: (r[0], r[0] + r[1]))


@pytest.mark.parametrize(
    "theirs, ours, settled",
    [((1, 1), (1, 1), 1), ((1, 3), (2, 5), 3), ((2, 5), (1, 3), 3), ((1, 9), (4, 4), 4), ((3, 3), (1, 3), 3)],
)
def test_peers_settle_on_the_newest_common_version(
    theirs: tuple[int, int], ours: tuple[int, int], settled: int
) -> None:
    assert negotiate(theirs, ours) == settled


@pytest.mark.parametrize("theirs, older", [((2, 3), "upgrade this side"), ((0, 0), "upgrade the peer")])
def test_ranges_that_do_not_meet_say_who_is_older(theirs: tuple[int, int], older: str) -> None:
    with pytest.raises(VersionMismatch, match=older):
        negotiate(theirs)


@given(RANGES, RANGES)
def test_both_sides_come_to_the_same_answer(one: tuple[int, int], other: tuple[int, int]) -> None:
    common = set(range(one[0], one[1] + 1)) & set(range(other[0], other[1] + 1))

    if common:
        assert negotiate(one, other) == negotiate(other, one) == max(common)
    else:
        with pytest.raises(VersionMismatch):
            negotiate(one, other)


def test_this_build_speaks_what_it_says() -> None:
    assert (OLDEST, NEWEST) == (1, 1)
    assert negotiate((OLDEST, NEWEST)) == NEWEST


@pytest.mark.parametrize("theirs", [(5, 1), (2, 1)])
def test_a_range_that_is_upside_down_never_meets_ours(theirs: tuple[int, int]) -> None:
    with pytest.raises(VersionMismatch):
        negotiate(theirs)

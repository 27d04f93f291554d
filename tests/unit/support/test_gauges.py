"""Slopes are taken inside lives: a process that starts again has not shrunk, and one that grows is found."""

import os
from pathlib import Path

import pytest

from tests.support.gauges import Gauges, slope


def test_a_flat_line_has_no_slope_and_neither_has_nothing() -> None:
    assert slope([[(0.0, 5.0), (10.0, 5.0), (20.0, 5.0)]]) == 0.0
    assert slope([[], [(1.0, 7.0)]]) == 0.0


def test_growth_inside_lives_is_found_whatever_a_restart_gives_back() -> None:
    one = [(float(at), 50.0 + 2.0 * at) for at in range(10)]
    two = [(100.0 + at, 20.0 + 2.0 * at) for at in range(10)]

    assert slope([one, two]) == pytest.approx(2.0)


def test_the_own_process_is_seen_and_a_dead_one_is_passed_over(tmp_path: Path) -> None:
    gauges = Gauges(warm_up_s=0.0)
    gauges.look("us", os.getpid())
    gauges.look("us", os.getpid())
    gauges.look("gone", 2**22 - 1)
    gauges.look_at_file("nothing", tmp_path / "nothing")

    low, high = gauges.spread("us", "rss_mib")
    assert 5.0 < low <= high
    assert gauges.spread("gone", "rss_mib") == (0.0, 0.0)
    assert "us: 1 lives" in gauges.table()
    assert "nothing: 0.00 MiB" in gauges.table()

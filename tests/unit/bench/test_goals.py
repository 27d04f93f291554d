"""The promises of the table of goals: every goal is there, medians count, and what was not measured is not judged."""

from typing import Any

from tests.bench.confined import Cost
from tests.bench.contestants import CONTESTANTS
from tests.bench.goals import Once, Row, rows


def run_of(ended_per_s: float, **more: Any) -> dict[str, Any]:
    usual = {"idle_p50_ms": 2.0, "idle_p99_ms": 4.0, "fsync_ms": 0.5, "cpu_us_per_task": {"hub": 90.0}}
    return {"ended_per_s": ended_per_s, **usual, **more}


def row(found: list[Row], what: str) -> Row:
    (only,) = [each for each in found if what in each.what]
    return only


def test_nothing_measured_is_no_goal_held_and_none_missed() -> None:
    found = rows(CONTESTANTS, {}, Once())

    assert {each.holds for each in found} == {None}
    assert {each.seen for each in found} == {"not measured"}
    assert len(found) == 26


def test_the_best_durable_and_the_fastest_peer_are_those_that_were_seen_to_be() -> None:
    figures = {
        "agentcom": [run_of(9_000), run_of(10_000), run_of(30_000)],
        "floor": [run_of(30_000)],
        "saq+redis aof": [run_of(1_900)],
        "dramatiq+redis": [run_of(5_000)],
        "procrastinate+postgresql": [run_of(800)],
        "agentcom+postgresql": [run_of(6_400)],
    }
    found = rows(CONTESTANTS, figures, Once())

    assert row(found, "tasks/s end to end")[:4] == (
        "tasks/s end to end, SQLite, batches of 100", "10,000", "10,000", True,
    )  # fmt: skip
    assert row(found, "durable peer").seen == "5.26 x (saq+redis aof)"
    assert row(found, "fastest peer, durable").seen == "2.00 x (dramatiq+redis)"
    assert row(found, "fastest peer, durable").holds is False
    assert row(found, "floor").seen == "0.33 x (floor)"
    assert row(found, "one hub").seen == "8.00 x (procrastinate+postgresql)"
    assert row(found, "one hub").holds
    assert row(found, "two hubs").holds is None


def test_the_idle_trip_is_judged_by_what_it_takes_beyond_two_fsyncs_of_its_own_round() -> None:
    runs = [run_of(1, idle_p50_ms=p50, fsync_ms=fsync) for p50, fsync in ((2.4, 0.5), (9.4, 4.0), (2.6, 0.5))]
    found = rows(CONTESTANTS, {"agentcom": runs}, Once())

    assert row(found, "idle round trip")[:4] == (
        "idle round trip, p50 less two fsyncs, ms", "at most 1.5", "1.40", True,
    )  # fmt: skip
    assert row(found, "processor time").holds is False


def test_what_is_measured_once_says_for_how_many() -> None:
    once = Once(
        crowd={"connections": 50, "hub_cpu_percent": 20.0, "bytes_per_connection": 25_000},
        queue={
            "size": 1_000,
            "agents": 10,
            "decision_us": 9.0,
            "busy_pss_bytes": 70e6,
            "ready_s": 0.5,
            "explain_p90_ms": 101.0,
        },
        back={"sidecars": 20.0, "back_s": 4.0, "peak": 12.0, "mean_per_s": 3.0},
        starts_ms={"--help": 80.0, "tasks ls": 151.0},
        explained={"p90_ms": 11.5},
    )
    found = rows(CONTESTANTS, {}, once)

    assert row(found, "50 idle sidecars").holds is False
    assert row(found, "a decision, 1,000 queued, 10 agents").seen == "9.0"
    assert row(found, "why the last one waits")[:4] == (
        "  why the last one waits, p90, ms", "at most 100", "101.0", False,
    )  # fmt: skip
    assert row(found, "10,000 tasks for models").seen == "11.5"
    assert row(found, "busiest second").seen == "4.0"
    assert row(found, "20 sidecars back").holds
    assert row(found, "tasks ls").holds is False


def test_a_confined_command_is_judged_by_the_time_that_passes() -> None:
    found = rows(CONTESTANTS, {}, Once(confined={"bubblewrap": Cost(20.04, 18.0), "landlock": Cost(20.1, 9.0)}))

    assert row(found, "bubblewrap")[:4] == (
        "a command confined by bubblewrap, ms more", "at most 20", "20.0 (18.0 of processor time)", False,
    )  # fmt: skip
    assert row(found, "landlock").holds is False
    (held,) = [each for each in rows(CONTESTANTS, {}, Once(confined={"landlock": Cost(9, 9)})) if each.holds]
    assert "landlock" in held.what


def test_a_slow_machine_changes_no_verdict_and_what_it_would_be_elsewhere_stands_beside_it() -> None:
    ours = run_of(6_000, cpu_us_per_task={"hub": 150.0}, singles_per_s=1_900.0, singles_p99_ms=100.0)
    found = rows(CONTESTANTS, {"agentcom": [ours], "floor": [run_of(18_000)]}, Once())

    assert row(found, "tasks/s end to end")[2:] == ("6,000", False, "12,000", True)
    assert row(found, "processor time")[2:] == ("150", False, "75", True)
    assert row(found, "single submissions")[2:] == ("1,900", False, "3,800", False)
    assert row(found, "their p99")[2:] == ("100", False, "50", True)
    assert row(found, "its p99 by its p50")[4:] == ("", None)
    assert row(found, "beside the floor")[2:] == ("0.33 x (floor)", True, "", None)


def test_a_round_trip_is_told_at_the_pace_of_round_trips() -> None:
    """A machine may be slow to wake and quick once it runs: the floor's own round trip says how slow to wake."""
    ours, floor = run_of(1, idle_p50_ms=3.0, rare_p50_ms=5.0), run_of(90_000, idle_p50_ms=2.54)
    found = rows(CONTESTANTS, {"agentcom": [ours], "floor": [floor]}, Once())

    assert row(found, "idle round trip")[2:] == ("2.00", False, "1.00", True)
    assert row(found, "come rarely")[2:] == ("4.00", False, "2.00", False)

    floor |= {"rare_p50_ms": 3.5, "idle_p99_ms": 6.35}
    found = rows(CONTESTANTS, {"agentcom": [ours], "floor": [floor]}, Once())
    assert row(found, "come rarely").seen == "4.00 (floor 2.50)"
    assert row(found, "its p99 by its p50").seen == "1.3 (floor 2.5)"
    assert row(found, "its p99 by its p50")[4:] == ("", None)


def test_a_machine_as_fast_as_that_of_the_goals_has_one_verdict() -> None:
    found = rows(CONTESTANTS, {"agentcom": [run_of(6_000)], "floor": [run_of(90_000, idle_p50_ms=1.1)]}, Once())

    assert {each.holds_there for each in found} == {None}
    assert {each.there for each in found} == {""}

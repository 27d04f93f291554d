"""``agentcom bench`` against its own real processes: the figures are there, and what they count has happened."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw

from agentcom.bench.tasks import SERIAL

COUNT = 500


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agentcom", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)


def report(*arguments: str) -> dict[str, Any]:
    said = bench(*arguments, "--json")
    assert said.returncode == 0, said.stderr
    return dict(json.loads(said.stdout))


def states(store: Path) -> dict[str, int]:
    with apsw.Connection(str(store)) as rows:
        return dict(rows.execute("SELECT state, count(*) FROM tasks GROUP BY state"))


def test_bench_tasks_measures_tasks_that_have_really_ended(tmp_path: Path) -> None:
    shape = ("--runs", "1", "--idle", "5", "--callers", "8")

    found = report("tasks", "--count", str(COUNT), *shape, "--folder", str(tmp_path))

    assert set(found) == {
        "load",
        "store",
        "disk",
        "submitted_per_s",
        "ended_per_s",
        "cpu_us_per_task",
        "commits",
        "singles",
        "idle_round_trip_ms",
        "serial_round_trip_ms",
        "memory",
        "ends",
    }
    tasks = 3 * COUNT + 5 + SERIAL * 5  # warm-up, one run, single submissions; and the idle ones
    assert found["ends"] == {"completed": tasks}
    assert states(tmp_path / "hub" / "hub.sqlite") == {"completed": tasks}
    assert found["ended_per_s"]["median"] <= found["submitted_per_s"]["median"]
    assert found["singles"]["answered_ms"]["count"] == COUNT
    assert (found["idle_round_trip_ms"]["count"], found["serial_round_trip_ms"]["count"]) == (5, SERIAL * 5)
    assert set(found["cpu_us_per_task"]) == {"hub", "sidecars", "submitter"}
    assert 0 < found["commits"]["tasks_each"]["median"] <= found["commits"]["changes_each"]["median"] * 100
    assert sum(found["commits"]["sizes"].values()) > 0
    assert found["disk"]["fsync_ms"]["p50"] > 0
    assert found["memory"]["hub"]["peak_rss_bytes"] > 1 << 20


def test_bench_connections_counts_what_a_crowd_costs() -> None:
    found = report("connections", "--count", "3", "--count", "20", "--heartbeat-s", "0.2", "--watch-s", "1")

    assert [figures["connections"] for figures in found["figures"]] == [3, 20]
    for figures in found["figures"]:
        assert figures["heartbeat_ms"]["count"] > 0
        assert figures["joined_per_s"] > 0


def test_bench_backlog_shows_decisions_and_restarts_at_each_length(tmp_path: Path) -> None:
    flags = ("--agents", "2", "--slots", "4", "--drain", "60", "--folder", str(tmp_path))

    found = report("backlog", "--count", "100", "--count", "300", *flags)

    assert [figures["queued"] for figures in found["figures"]] == [100, 300]
    for figures in found["figures"]:
        assert figures["decision_us"] >= 0  # so few may all be given away between two looks
        assert figures["restart_s"] > 0
    left = states(tmp_path / "hub" / "hub.sqlite")
    assert set(left) == {"queued", "completed"}
    assert left["completed"] >= 2 * 60


def test_bench_growth_measures_each_size_on_a_store_that_really_is_so_long(tmp_path: Path) -> None:
    flags = ("--of", "history", "--size", "0", "--size", "300", "--queue", "50", "--agents", "2", "--drain", "60")

    found = report("growth", *flags, "--folder", str(tmp_path))

    assert [(figures["of"], figures["size"]) for figures in found["figures"]] == [("history", 0), ("history", 300)]
    for figures in found["figures"]:
        assert min(figures[name] for name in ("ready_s", "list_ms", "history_ms", "explain_ms", "hub_pss_bytes")) > 0
    for size in (0, 300):
        left = states(tmp_path / f"history-{size}" / "hub" / "hub.sqlite")
        assert left["completed"] >= size + 60
        assert sum(left.values()) == 1 + 50 + size + 60


def test_a_folder_that_cannot_be_used_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    said = bench("tasks", "--folder", str(tmp_path / "file" / "below"))

    assert said.returncode == 2
    assert "--folder: cannot use" in said.stderr
    assert said.stdout == ""

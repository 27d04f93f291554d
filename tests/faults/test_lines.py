"""Rows T12 to T15: a line that works badly for long (slow, narrow, flapping), and one that is gone for too long."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.history import assert_nothing_lost, wait_ended
from tests.support.mesh import FINAL, LOOK_S, Mesh, mesh, until, work_of
from tests.support.remote import remote
from tests.support.weather import Weather

MEGABIT = 125_000.0
"""Bytes a second."""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Mesh]:
    """A hub with the default heartbeats and leases."""
    with mesh(tmp_path, lease_s=30.0, heartbeat_s=5.0) as made:
        yield made


@pytest.fixture
def weather(running: Mesh) -> Iterator[Weather]:
    made = Weather(running.url.removeprefix("http://"), seed=1)
    yield made
    made.end()


def work_for(running: Mesh, seconds: float) -> list[str]:
    """Keep a few short tasks under way for so long; all that were submitted."""
    tasks: list[str] = []
    under_way: set[str] = set()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        under_way = {task for task in under_way if running.task(task)["state"] not in FINAL}
        if len(under_way) < 4:
            fresh = running.submit_all([{"command": "sleep 0.5; echo done"}] * 4)
            tasks += fresh
            under_way |= set(fresh)
        time.sleep(0.2)
    return tasks


def work_on_a_slow_line(running: Mesh, seconds: float, row: str) -> None:
    """Work for so long, over the line that stands; nobody may be taken for dead."""
    before = len(running.events("agent_lost"))
    tasks = work_for(running, seconds)
    wait_ended(running, tasks, timeout_s=120)
    history = assert_nothing_lost(running, tasks)
    false_deaths = len(running.events("agent_lost")) - before

    print(f"\n{row}: {seconds:g} s: {history}; {false_deaths} false deaths")
    assert history.states == {"completed": len(tasks)}
    assert history.attempts == len(tasks)
    assert false_deaths == 0


def test_t12_a_slow_and_jittery_line_is_no_dead_one(running: Mesh, weather: Weather) -> None:
    """Every word comes up to 0.4 s late, each way: nobody is taken for dead, nothing runs twice."""
    weather.set(up={"jitter_s": 0.4}, down={"jitter_s": 0.4})
    running.start_sidecar("One", "--slots", "4", hub=weather.url)
    running.wait_agents("One")
    work_on_a_slow_line(running, 4.0, "T12")


@pytest.mark.root
@pytest.mark.soak
@pytest.mark.timeout(900)
def test_t12_ten_minutes_of_jitter_and_lost_packets(tmp_path: Path) -> None:
    """As above for ten minutes, and a tenth of all packets is lost on the way."""
    with remote() as machine, mesh(tmp_path, lease_s=30.0, heartbeat_s=5.0) as running:
        weather = Weather(running.url.removeprefix("http://"), seed=1, listen=machine.here)
        try:
            weather.set(up={"jitter_s": 0.4}, down={"jitter_s": 0.4})
            machine.lose(0.1)
            running.start_sidecar("One", "--slots", "4", hub=weather.url, under=machine.under)
            running.wait_agents("One", timeout_s=120)
            work_on_a_slow_line(running, 600.0, "T12, 10 % loss")
        finally:
            weather.end()


def bury_in_output(running: Mesh, weather: Weather, *, tasks: int, megabytes: int, pause_s: float) -> None:
    """Tasks that write far more than the line can carry; how old the last heartbeat ever was."""
    weather.set(up={"bytes_per_s": MEGABIT}, down={"bytes_per_s": MEGABIT})
    running.start_sidecar("One", "--slots", str(tasks), hub=weather.url)
    running.wait_agents("One")
    flood = (
        f"i=0; while [ $i -lt {megabytes} ]; do head -c 750000 /dev/urandom | base64; i=$((i+1)); sleep {pause_s}; done"
    )
    submitted = running.submit_all([{"command": flood}] * tasks)
    beats = [time.monotonic()]
    last_seen = None
    while not all(running.task(task)["state"] in FINAL for task in submitted):
        seen = running.call("GET", "/api/v1/agents/One")["last_seen_at"]
        if seen != last_seen:
            last_seen = seen
            beats.append(time.monotonic())
        time.sleep(LOOK_S)
    beats.append(time.monotonic())
    history = assert_nothing_lost(running, submitted)
    lost = len(running.events("agent_lost"))
    longest_s = max(later - earlier for earlier, later in itertools.pairwise(beats))

    print(f"\nT13: {tasks} x {megabytes} MB over 1 Mbit/s: longest gap of heartbeats {longest_s:.1f} s: {history}")
    assert history.states == {"completed": tasks}
    assert history.attempts == tasks
    assert lost == 0


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_t13_heartbeats_are_not_starved_by_output_on_a_narrow_line(running: Mesh, weather: Weather) -> None:
    """1 Mbit/s and 100 MB of output: the line stays up, the output that does not fit is dropped."""
    bury_in_output(running, weather, tasks=4, megabytes=25, pause_s=1.0)


def part_for_too_long(folder: Path, *, lease_s: float, heartbeat_s: float, work_s: float, away_s: float) -> None:
    with mesh(folder, lease_s=lease_s, heartbeat_s=heartbeat_s) as running:
        weather = Weather(running.url.removeprefix("http://"), seed=1)
        try:
            running.start_sidecar("One", hub=weather.url)
            running.wait_agents("One")
            task = running.submit(command=f"sleep {work_s}; echo $AGENTCOM_EPOCH")
            until(lambda: work_of(task, 1), "it runs")
            began = time.monotonic()
            weather.drop()
            running.start_sidecar("Two")
            until(lambda: work_of(task, 2), "it runs elsewhere", timeout_s=lease_s + 60)
            moved_s = time.monotonic() - began
            was_alive = bool(work_of(task, 1))
            time.sleep(max(0.0, away_s - moved_s))  # how long the line is gone is the fault
            weather.fair()
            running.wait_agents("One", timeout_s=60)
            wait_ended(running, [task], timeout_s=60 + work_s)
            history = assert_nothing_lost(running, [task])
            found = running.task(task)
        finally:
            weather.end()

    print(f"\nT14: away for {away_s:g} s with leases of {lease_s:g} s, ran elsewhere after {moved_s:.1f} s: {history}")
    assert not was_alive, "the sidecar stops its own work before its lease can end"
    assert [attempt["state"] for attempt in found["attempts"]] == ["lost", "passed"]
    assert [attempt["agent"] for attempt in found["attempts"]] == ["One", "Two"]
    assert found["result"]["output"].strip() == "2"


def test_t14_after_a_partition_longer_than_a_lease_one_result_counts(tmp_path: Path) -> None:
    """The line is gone for longer than a lease, then heals: run elsewhere, old child dead, one result accepted."""
    part_for_too_long(tmp_path, lease_s=4.0, heartbeat_s=0.5, work_s=3.0, away_s=6.0)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_t14_a_partition_of_ninety_seconds(tmp_path: Path) -> None:
    """As above with the default lease."""
    part_for_too_long(tmp_path, lease_s=30.0, heartbeat_s=5.0, work_s=30.0, away_s=90.0)


def flap(running: Mesh, weather: Weather, seconds: float) -> None:
    """The line breaks every 3 s; work goes on, and nothing piles up."""
    running.start_sidecar("One", "--slots", "4", hub=weather.url)
    running.wait_agents("One")
    watched = psutil.Process(running.sidecars["One"].pid)
    tasks: list[str] = []
    began = time.monotonic()
    before = (watched.memory_info().rss, watched.num_fds())
    while time.monotonic() - began < seconds:
        tasks += work_for(running, 3.0)
        weather.cut()
    wait_ended(running, tasks, timeout_s=180)
    took_s = time.monotonic() - began
    after = (watched.memory_info().rss, watched.num_fds())
    history = assert_nothing_lost(running, tasks)
    cuts = weather.counts["cuts"]

    print(
        f"\nT15: {cuts} flaps in {took_s:.0f} s: {history}; sidecar {before[0] >> 20} -> {after[0] >> 20} MiB,"
        f" {before[1]} -> {after[1]} descriptors"
    )
    assert history.states == {"completed": len(tasks)}
    assert history.attempts == len(tasks)
    assert len(tasks) >= took_s / 10
    assert after[1] <= before[1] + 20


def test_t15_work_goes_on_over_a_line_that_flaps(running: Mesh, weather: Weather) -> None:
    """Every 3 s the line is cut: at least a task every 10 s, no attempt lost, no descriptor left behind."""
    flap(running, weather, 6.0)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_t15_five_minutes_of_flapping(running: Mesh, weather: Weather) -> None:
    """As above at full count."""
    flap(running, weather, 300.0)

"""Rows T19 and T20: clocks that are wrong, step or jump. Leases and order are judged by one monotonic clock alone."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hub.clock import SystemClock
from tests.support.bad_disk import need_programs
from tests.support.foreign_agent import ForeignAgent
from tests.support.history import assert_nothing_lost
from tests.support.mesh import mesh, until
from tests.support.running_hub import RunningHub, running_hub
from tests.support.strangers import join, kinds, submit, task, until_state

SKEWS = {"HourAhead": "+3600", "HourBehind": "-3600", "YearAhead": "+365d", "YearBehind": "-365d"}
HOURS_2_MS = 2 * 3_600 * 1_000


def skewed(offset: str) -> tuple[str, ...]:
    """A command that becomes another one with its wall clock off by this much; its monotonic clock is the machine's.

    The program ``faketime`` is not used: it stays as the parent, and a signal to it leaves the other one behind.
    """
    need_programs("faketime")
    library = next(Path("/usr/lib").rglob("libfaketime.so.1"))
    return ("env", f"LD_PRELOAD={library}", f"FAKETIME={offset}", "FAKETIME_DONT_FAKE_MONOTONIC=1")


# --- T19 --------------------------------------------------------------------------------------------------------------


def work_under_wrong_clocks(folder: Path, *, lease_s: float, heartbeat_s: float, work_s: float) -> None:
    with mesh(folder, lease_s=lease_s, heartbeat_s=heartbeat_s) as running:
        for name, offset in SKEWS.items():
            running.start_sidecar(name, "--capability", f"clock:{name}", under=skewed(offset))
        running.wait_agents(*SKEWS, timeout_s=60)
        command = f"sleep {work_s}; date +%Y"
        tasks = running.submit_all([{"command": command, "needs": [f"clock:{name}"]} for name in SKEWS])
        ended = running.wait(*tasks, timeout_s=60 + work_s)
        running.kill(running.sidecars["YearAhead"])
        running.start_sidecar("YearAhead", "--capability", "clock:YearAhead")
        mended = running.submit(command="true", needs=["clock:YearAhead"])
        running.wait(mended)
        history = assert_nothing_lost(running, [*tasks, mended])

    print(f"\nT19: {', '.join(SKEWS.values())}: {history}")
    assert history.states == {"completed": 5}
    assert history.attempts == 5
    assert {task["result"]["output"].strip() for task in ended} == {f"{datetime.now(UTC).year}"}, "work has real time"


def test_t19_sidecars_whose_clocks_are_wrong_work_like_any_other(tmp_path: Path) -> None:
    """Wall clocks an hour and a year off, both ways: their results count, and so do those of a mended one."""
    work_under_wrong_clocks(tmp_path, lease_s=30.0, heartbeat_s=5.0, work_s=1.0)


@pytest.mark.soak
def test_t19_leases_are_renewed_by_clocks_that_do_not_agree_on_the_year(tmp_path: Path) -> None:
    """As above with work that is longer than a lease."""
    work_under_wrong_clocks(tmp_path, lease_s=15.0, heartbeat_s=2.0, work_s=25.0)


def test_t19_a_clock_that_makes_a_certificate_invalid_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sidecar a year ahead meets a certificate of a month: it says so, keeps trying, and others are not disturbed."""
    need_programs("openssl")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30")
    named = ("-subj", "/CN=hub", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert))
    subprocess.run([*made, *named], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    with mesh(tmp_path, hub_flags=("--tls-cert", str(cert), "--tls-key", str(key))) as running:
        running.start_sidecar("Right")
        running.wait_agents("Right")
        running.start_sidecar("Wrong", under=skewed("+365d"))
        log = running.folder / "sidecar-Wrong.log"

        def trouble() -> list[dict[str, Any]]:
            lines = [json.loads(line) for line in log.read_text("utf-8").splitlines() if line.startswith("{")]
            return [line for line in lines if line["event"] == "hub_unreachable"]

        until(trouble, "it says what is wrong")
        running.wait(running.submit(command="true"))

        assert "certificate has expired" in trouble()[0]["why"]
        assert running.sidecars["Wrong"].poll() is None, "it goes on trying: clocks get mended"


# --- T20 --------------------------------------------------------------------------------------------------------------


class SteppedClock(SystemClock):
    """The machine's clocks, moved by hand."""

    def __init__(self) -> None:
        self.wall_ms = 0
        self.since_start_s = 0.0

    def now_ms(self) -> int:
        return super().now_ms() + self.wall_ms

    def monotonic(self) -> float:
        return super().monotonic() + self.since_start_s


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
async def hub(tmp_path: Path, clock: SteppedClock) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path, clock, heartbeat_s=1.0, lease_s=30.0) as made:
        yield made


async def until_quiet(hub: RunningHub, agent: ForeignAgent) -> None:
    """The sweeper has looked again: what it wanted to do about the clocks it has done."""
    await until_state(hub, await submit(hub, ttl_s=1, needs=["nowhere"]), "failed")
    await agent.say({"t": "ping", "token": 1})


async def beat(agent: ForeignAgent, attempt: list[Any]) -> None:
    held = [{"attempt": attempt, "state": "running"}]
    await agent.say({"t": "heartbeat", "sidecar": "Foreign", "boot": 1, "attempts": held})


@pytest.mark.parametrize("step_ms", [HOURS_2_MS, -HOURS_2_MS], ids=["two hours on", "two hours back"])
async def test_t20_a_wall_clock_that_steps_takes_no_work_away(
    hub: RunningHub, clock: SteppedClock, step_ms: int
) -> None:
    """The hub's wall clock steps while work runs: no lease ends early or late, and the result counts."""
    agent = await join(hub)
    name = await submit(hub)
    attempt = await agent.take()
    await until_state(hub, name, "running")
    clock.wall_ms += step_ms
    await beat(agent, attempt)
    await until_quiet(hub, agent)
    during = await kinds(hub, name)
    await agent.until_acknowledged(await agent.report(attempt))
    found = await task(hub, name)
    await agent.leave()

    assert during == ["task_queued", "task_assigned", "task_started"]
    assert (found["state"], len(found["attempts"])) == ("completed", 1)


async def test_t20_what_people_wrote_as_a_time_follows_the_wall_clock(hub: RunningHub, clock: SteppedClock) -> None:
    """A start and a deadline in an hour, and a step of two: the one is ready, the other has passed, each once."""
    in_an_hour = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    delayed = await submit(hub, run_after=in_an_hour)
    doomed = await submit(hub, complete_by=in_an_hour, needs=["nowhere"])
    clock.wall_ms += HOURS_2_MS
    await until_state(hub, doomed, "failed")
    agent = await join(hub)
    attempt = await agent.work()
    clock.wall_ms -= HOURS_2_MS  # back again: what has happened has happened
    await until_quiet(hub, agent)
    await agent.leave()

    assert attempt[2] == delayed
    assert await kinds(hub, delayed) == ["task_queued", "task_ready", "task_assigned", "task_started", "task_completed"]
    assert await kinds(hub, doomed) == ["task_queued", "task_failed"]


async def test_t20_a_monotonic_clock_that_jumps_costs_a_line_and_no_attempt(
    hub: RunningHub, clock: SteppedClock
) -> None:
    """The machine slept for an hour: the silence was the hub's own, so leases get another term."""
    agent = await join(hub)
    name = await submit(hub)
    attempt = await agent.take()
    await until_state(hub, name, "running")
    clock.since_start_s += 3_600.0
    await agent.closed()
    back = await join(hub, inventory=[{"attempt": attempt, "state": "running"}], boot=1)
    verdicts = [(verdict["attempt"], verdict["verdict"]) for verdict in back.welcome["verdicts"]]
    await until_quiet(hub, back)
    await back.until_acknowledged(await back.report(attempt))
    found = await task(hub, name)
    await back.leave()

    assert verdicts == [(attempt, "keep")]
    assert (found["state"], len(found["attempts"])) == ("completed", 1)


async def test_t20_after_a_jump_leases_end_as_before(tmp_path: Path, clock: SteppedClock) -> None:
    """Another term is one term: an agent that stays silent after the jump loses its attempt."""
    async with running_hub(tmp_path, clock, heartbeat_s=0.5, lease_s=2.0) as hub:
        agent = await join(hub)
        name = await submit(hub)
        await agent.take()
        await until_state(hub, name, "running")
        clock.since_start_s += 3_600.0
        async with asyncio.timeout(30):
            found = await until_state(hub, name, "queued")
        await agent.leave()

    assert [attempt["state"] for attempt in found["attempts"]] == ["lost"]

"""The promises of a whole sidecar, in this process and as one of its own, against a server that speaks the protocol."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from msgspec import Raw

from protocol import codec
from protocol.ids import NAME
from protocol.messages import Assign, Error, Log, Reject, Report
from protocol.model import AttemptId, AttemptState, Context, FailureClass, Routing, TaskSpec, Tier, TierDecision
from protocol.names import SHIPS
from sidecar.app import start
from sidecar.dial import Pace
from sidecar.journal import StateDirInUse
from sidecar.lifecycle import SidecarState
from sidecar.settings import Settings
from tests.support.hub_server import HubServer
from tests.support.mesh import work_of
from tests.support.repositories import make_remote

ROOT = Path(__file__).parents[3]
TIER = TierDecision(explicit=None, inferred=Tier.TRIVIAL, effective=Tier.TRIVIAL, confidence=1, signals=())
HURRY = Pace(first_s=0.02, cap_s=0.05)
PROGRAM = (
    "import sys, json; from sidecar import app, settings;"
    "env = {'HOME': '/nonexistent', 'OLLAMA_HOST': '127.0.0.1:1'};"
    "sys.exit(app.main(settings.load(json.loads(sys.argv[1]), env)[0]))"
)


@pytest.fixture
async def hub() -> AsyncIterator[HubServer]:
    server = HubServer()
    await server.start()
    yield server
    await server.stop()


def settings_for(hub: HubServer, folder: Path) -> Settings:
    return Settings(
        hub=hub.url, token="acm_good", state_dir=str(folder), endpoints=(), slots=2, capabilities=("site:lab",)
    )


def assign(hub: HubServer, command: str, number: int = 1, epoch: int = 1, repo: str = "") -> Assign:
    hello = hub.hellos[-1]
    attempt = AttemptId(hello.sidecar, hello.boot, f"{number:026}", epoch)
    routing = Routing(tier=TIER, executor="shell")
    spec = TaskSpec(command=command, context=Context(repo=repo))
    return Assign(attempt=attempt, spec=Raw(codec.encode_spec(spec)), routing=routing, lease_s=30)


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


# --- in this process --------------------------------------------------------------------------------------------------


async def test_a_sidecar_joins_works_and_leaves(hub: HubServer, tmp_path: Path) -> None:
    running = await start(settings_for(hub, tmp_path / "state"), pace=HURRY)
    await hub.until(lambda: hub.heartbeats)
    await hub.say(assign(hub, "echo hello"))
    await hub.until(lambda: hub.of(Report))
    await hub.until(lambda: any(beat.reading for beat in hub.heartbeats))
    state = running.lifecycle.now
    await running.stop()
    await running.stop()
    hello, report = hub.hellos[0], hub.of(Report)[0]

    assert (report.state, report.result.exit_code) == (AttemptState.PASSED, 0)
    assert state is SidecarState.ONLINE
    assert running.lifecycle.now is SidecarState.STOPPING
    assert hello.slots == 2
    assert {"executor:shell", "executor:noop", "os:linux", "git", "site:lab"} <= set(hello.capabilities)
    assert hub.headers[0]["User-Agent"].startswith("agentcom-sidecar/")
    total_bytes, used_bytes = next(beat.reading for beat in hub.heartbeats if beat.reading).ram
    assert total_bytes > used_bytes > 0


async def test_scratch_files_of_an_earlier_start_are_removed(hub: HubServer, tmp_path: Path) -> None:
    left = tmp_path / "scratch" / "task-e1"
    left.mkdir(parents=True)
    running = await start(settings_for(hub, tmp_path), pace=HURRY)
    await running.stop()

    assert not left.exists()


async def test_git_reaches_other_machines_with_the_keys_of_the_user_and_the_work_does_not(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = make_remote(tmp_path)
    seen = tmp_path / "seen"
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\nenv > {seen}\nfor last; do :; done\neval "$last"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent.sock")
    running = await start(settings_for(hub, tmp_path / "state"), pace=HURRY)
    await hub.until(lambda: hub.heartbeats)
    await hub.say(assign(hub, "env; echo x > new", repo=f"git@box:{remote.path}"))
    await hub.until(lambda: hub.of(Report))
    await running.stop()
    result = hub.of(Report)[0].result

    assert result.pushed, result.error
    assert {"HOME=/home/someone", "SSH_AUTH_SOCK=/run/agent.sock"} <= set(seen.read_text().splitlines())
    assert "agent.sock" not in result.output
    assert "/home/someone" not in result.output


async def test_the_name_is_a_ship_and_stays_while_the_boot_grows(hub: HubServer, tmp_path: Path) -> None:
    for count in (1, 2):
        running = await start(settings_for(hub, tmp_path), pace=HURRY)
        await hub.until(lambda count=count: len(hub.hellos) == count)
        await running.stop()
    first, second = hub.hellos

    assert first.sidecar in SHIPS
    assert NAME.fullmatch(first.sidecar)
    assert second.sidecar == first.sidecar == (tmp_path / "name").read_text().strip()
    assert second.boot > first.boot


async def test_a_second_sidecar_on_the_same_state_is_refused_and_harms_nothing(hub: HubServer, tmp_path: Path) -> None:
    running = await start(settings_for(hub, tmp_path), pace=HURRY)
    with pytest.raises(StateDirInUse):
        await start(settings_for(hub, tmp_path), pace=HURRY)
    await hub.until(lambda: hub.heartbeats)
    await running.stop()

    assert len(hub.hellos) == 1


async def test_draining_lets_work_end_and_takes_nothing_new(hub: HubServer, tmp_path: Path) -> None:
    running = await start(settings_for(hub, tmp_path), pace=HURRY)
    await hub.until(lambda: hub.heartbeats)
    await hub.say(assign(hub, "echo up; sleep 0.3"))
    await hub.until(lambda: hub.of(Log))
    drained = asyncio.create_task(running.drain(20.0))
    await hub.until(lambda: hub.heartbeats[-1].draining)
    await hub.say(assign(hub, "true", 2))
    await hub.until(lambda: hub.of(Reject))
    await drained

    assert [report.state for report in hub.of(Report)] == [AttemptState.PASSED]
    assert hub.of(Reject)[0].code == "draining"


async def test_work_that_outlasts_the_drain_is_reported_as_lost(hub: HubServer, tmp_path: Path) -> None:
    running = await start(settings_for(hub, tmp_path), pace=HURRY)
    await hub.until(lambda: hub.heartbeats)
    await hub.say(assign(hub, "echo up; sleep 60"))
    await hub.until(lambda: hub.of(Log))
    await running.drain(0.05)

    assert [(r.state, r.failure) for r in hub.of(Report)] == [(AttemptState.LOST, FailureClass.INFRA)]


# --- as a process -----------------------------------------------------------------------------------------------------


Spawn = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def spawn() -> AsyncIterator[Spawn]:
    """Starts sidecars as processes of their own; whatever a test leaves running ends with it, and so do its pipes."""
    started: list[asyncio.subprocess.Process] = []

    async def one(hub: HubServer, folder: Path, **flags: object) -> asyncio.subprocess.Process:
        given = {"hub": hub.url, "token": "acm_good", "state_dir": str(folder), "log": "json"} | flags
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, json.dumps(given),
            cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return process

    yield one
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def last_line(process: asyncio.subprocess.Process) -> dict[str, object]:
    assert process.stderr is not None
    lines = (await process.stderr.read()).decode().splitlines()
    found: dict[str, object] = json.loads(lines[-1])
    return found


async def test_a_signal_lets_work_end_and_exits_cleanly(hub: HubServer, tmp_path: Path, spawn: Spawn) -> None:
    process = await spawn(hub, tmp_path)
    await hub.until(lambda: hub.heartbeats)
    await hub.say(assign(hub, "echo up; sleep 0.5; echo done"))
    await hub.until(lambda: hub.of(Log))
    process.send_signal(signal.SIGTERM)
    await hub.until(lambda: hub.of(Report))
    code = (await process.wait(), (await last_line(process))["event"])

    assert code == (0, "sidecar_stopped")
    assert [report.state for report in hub.of(Report)] == [AttemptState.PASSED]


async def test_a_second_signal_ends_work_at_once(hub: HubServer, tmp_path: Path, spawn: Spawn) -> None:
    process = await spawn(hub, tmp_path)
    await hub.until(lambda: hub.heartbeats)
    await hub.say(assign(hub, "echo up; sleep 60"))
    await hub.until(lambda: hub.of(Log))
    process.send_signal(signal.SIGINT)
    await hub.until(lambda: hub.heartbeats[-1].draining)
    process.send_signal(signal.SIGINT)
    await hub.until(lambda: hub.of(Report))
    code = await process.wait()
    await last_line(process)

    assert code == 0
    assert [report.state for report in hub.of(Report)] == [AttemptState.LOST]


async def test_kill_9_leaves_no_process_and_the_next_start_reports_the_loss(
    hub: HubServer, tmp_path: Path, spawn: Spawn
) -> None:
    process = await spawn(hub, tmp_path / "state")
    await hub.until(lambda: hub.heartbeats)
    task = assign(hub, "setsid sleep 600 & echo up; sleep 600")
    await hub.say(task)
    await hub.until(lambda: hub.of(Log))
    process.kill()
    await process.wait()
    again = await spawn(hub, tmp_path / "state")
    await hub.until(lambda: hub.of(Report))
    first, second = hub.hellos
    again.terminate()
    await again.wait()
    for each in (process, again):
        await last_line(each)
    (report,) = hub.of(Report)
    _, left = await asyncio.to_thread(psutil.wait_procs, work_of(task.attempt.task), 10)

    assert left == []
    assert second.boot > first.boot
    assert [held.attempt.boot for held in second.inventory] == [first.boot]
    assert (report.state, report.failure, report.result.error_code) == (
        AttemptState.LOST, FailureClass.INFRA, "sidecar_restarted",
    )  # fmt: skip


@pytest.mark.parametrize(
    "first, status, code, why",
    [
        (None, 401, 4, "(unauthenticated)"),
        (None, 403, 4, "(forbidden)"),
        (Error(code="version_mismatch", detail="too old", fatal=True), 0, 2, "too old"),
        (Error(code="evicted", detail="a newer one is here", fatal=True), 0, 2, "a newer one is here"),
    ],
)
async def test_a_refusal_is_one_clear_line_and_an_exit_code(
    hub: HubServer, tmp_path: Path, spawn: Spawn, first: Error | None, status: int, code: int, why: str
) -> None:
    hub.first, hub.status = first, status
    process = await spawn(hub, tmp_path)
    line = await last_line(process)

    assert await process.wait() == code
    assert line["event"] == "sidecar_ended"
    assert why in str(line["why"])


async def test_a_state_directory_in_use_is_an_input_error(hub: HubServer, tmp_path: Path, spawn: Spawn) -> None:
    running = await start(settings_for(hub, tmp_path), pace=HURRY)
    process = await spawn(hub, tmp_path)
    line = await last_line(process)
    await running.stop()

    assert await process.wait() == 2
    assert (line["code"], "give this one its own --state-dir" in str(line["why"])) == ("state_dir_in_use", True)

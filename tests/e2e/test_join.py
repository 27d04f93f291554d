"""One command adds a machine: real hub, real command, real sidecar; killed in between, and out again with no trace."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from provisioning.plan import JOIN
from tests.support.running_hub import RunningHub, running_hub

WAIT_S = 90.0


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path / "hub") as running:
        yield running


class Machine:
    """A home that nothing has touched, and the command that is run there."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir()
        self.where = ("--state-dir", str(home / "var" / "state"), "--config", str(home / "etc" / "sidecar.toml"))

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        env = {name: value for name, value in os.environ.items() if not name.startswith("AGENTCOM_")}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "agentcom", *words, *self.where),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=env | {"HOME": str(self.home), "PYTHONUNBUFFERED": "1"},
        )

    async def run(self, *words: str) -> tuple[int, str]:
        process = await self.start(*words)
        async with asyncio.timeout(WAIT_S):
            said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode()

    async def until(self, process: asyncio.subprocess.Process, words: str) -> str:
        """What it says, until it says these words."""
        assert process.stdout is not None
        said = ""
        async with asyncio.timeout(WAIT_S):
            while words not in said:
                line = await process.stdout.readline()
                assert line, said
                said += line.decode()
        return said

    def left(self) -> list[str]:
        return sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*"))


async def token_of(hub: RunningHub, **body: object) -> str:
    answer = await hub.ask("POST", "/api/v1/join-tokens", json=body)
    return str((await answer.json())["token"])


async def agents(hub: RunningHub) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await (await hub.ask("GET", "/api/v1/agents")).json())["agents"]
    return found


async def end(process: asyncio.subprocess.Process, number: int = signal.SIGTERM) -> None:
    if process.returncode is None:
        process.send_signal(number)
    async with asyncio.timeout(WAIT_S):
        await process.communicate()


async def killed_and_run_again(hub: RunningHub, machine: Machine, steps: tuple[str, ...]) -> None:
    token = await token_of(hub)
    join = ("join", hub.url, "--token", token, "--foreground")
    for step in steps:
        process = await machine.start(*join)
        await machine.until(process, f"ok   {step} ")
        await end(process, signal.SIGKILL)
    process = await machine.start(*join)
    said = await machine.until(process, "takes part")
    healthy, checks = await machine.run("doctor", "--machine")
    assert healthy == 0, checks
    status, gone = await machine.run("leave", "--purge")
    await end(process)

    assert "done and verified" in said
    assert [agent["name"] in said for agent in await agents(hub)] == [True]
    (row,) = (await (await hub.ask("GET", "/api/v1/join-tokens")).json())["join_tokens"]
    assert (row["used"], row["state"]) == (1, "used")
    tokens = (await (await hub.ask("GET", "/api/v1/tokens")).json())["tokens"]
    assert [one["revoked_at"] is not None for one in tokens if one["label"].startswith("machine ")] != []
    assert all(one["revoked_at"] for one in tokens if one["label"].startswith("machine "))
    assert (status, machine.left()) == (0, []), gone


async def test_a_machine_that_was_killed_while_it_joined_ends_as_any_other_and_leaves_no_trace(
    hub: RunningHub, tmp_path: Path
) -> None:
    await killed_and_run_again(hub, Machine(tmp_path / "home"), ("register",))


@pytest.mark.soak
async def test_every_step_may_be_killed(hub: RunningHub, tmp_path: Path) -> None:
    await killed_and_run_again(hub, Machine(tmp_path / "home"), JOIN)


async def test_a_dry_run_changes_nothing_and_bad_words_are_told(hub: RunningHub, tmp_path: Path) -> None:
    machine, token = Machine(tmp_path / "home"), await token_of(hub)

    status, said = await machine.run("join", hub.url, "--token", token, "--foreground", "--dry-run")
    assert (status, "would be done" in said) == (0, True), said
    wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
    assert (await machine.run("join", hub.url, "--token", wrong))[0] == 2
    assert (await machine.run("leave"))[0] == 2
    assert machine.left() == []


async def waits_with_a_code(hub: RunningHub, machine: Machine, process: asyncio.subprocess.Process) -> str:
    """The code that its screen shows, when the hub shows the same."""
    said = await machine.until(process, "agentcom machines approve ")
    code = said.split()[-1]
    (asked,) = (await (await hub.ask("GET", "/api/v1/join-requests")).json())["join_requests"]
    assert asked["code"] == code
    return code


async def test_a_machine_that_a_person_approves_goes_on_leaves_and_comes_back_under_its_name(
    hub: RunningHub, tmp_path: Path
) -> None:
    machine = Machine(tmp_path / "home")
    process = await machine.start("join", hub.url, "--foreground")
    code = await waits_with_a_code(hub, machine, process)
    assert await agents(hub) == []
    approved = await hub.ask("POST", f"/api/v1/join-requests/{code}/approve", role="operator")
    said = await machine.until(process, "takes part")
    await end(process)
    (agent,) = await agents(hub)
    assert (approved.status, agent["name"] in said) == (204, True), said

    left = await machine.run("leave")
    process = await machine.start("rejoin", "--token", await token_of(hub), "--foreground")
    back = await machine.until(process, "takes part")
    await end(process)
    gone = await machine.run("leave", "--purge")

    assert left[0] == 0, left[1]
    assert f"{agent['name']} takes part" in back
    assert [each["name"] for each in await agents(hub)] == [agent["name"]]
    assert (gone[0], machine.left()) == (0, []), gone[1]


async def test_a_machine_that_a_person_denies_is_told_so_and_ends(hub: RunningHub, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "home")
    process = await machine.start("join", hub.url, "--foreground")
    code = await waits_with_a_code(hub, machine, process)
    await hub.ask("POST", f"/api/v1/join-requests/{code}/deny", role="operator")
    async with asyncio.timeout(WAIT_S):
        said, _ = await process.communicate()

    assert process.returncode == 4, said
    assert "denied" in said.decode()
    assert await agents(hub) == []
    assert (await machine.run("rejoin"))[0] != 0

"""Releases that are not the same work together, one version apart; two apart there is one clear word, and no harm."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import releases
from tests.support.mesh import mesh, until
from tests.support.running_hub import RunningHub, running_hub

OLDER = "aa976cee68483762a9eacaa7abdc8af39e05c3bb"
"""A commit long ago; its sidecar knows nothing of what the hub has learnt since."""
WAIT_S = 60.0
RANGE = "OLDEST: Final = 1\nNEWEST: Final = 1\n"
NEXT = {"protocol/version.py": (RANGE, "OLDEST: Final = 1\nNEWEST: Final = 2\n")}
AFTER_NEXT = {"protocol/version.py": (RANGE, "OLDEST: Final = 2\nNEWEST: Final = 3\n")}


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path / "hub") as running:
        yield running


def older(folder: Path) -> Path:
    """The tree as it was; skips if this clone has no history."""
    packed = subprocess.run(
        ["git", "archive", "--format=tar", OLDER, *releases.PACKAGES],
        cwd=releases.ROOT,
        check=False,
        capture_output=True,
    )
    if packed.returncode:
        pytest.skip(f"this clone does not hold commit {OLDER[:8]}: {packed.stderr.decode().strip()}")
    folder.mkdir(parents=True, exist_ok=True)
    # By the program: the library's filter came with Python 3.11.4, and Debian's is older.
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    return folder


@asynccontextmanager
async def sidecar(hub: RunningHub, folder: Path, release: Path, name: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A sidecar of this release."""
    token = folder / "agent.token"
    token.write_text(hub.tokens["agent"])
    where = ("--hub", hub.url, "--token-file", str(token), "--state-dir", str(folder / name), "--name", name)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agentcom", "sidecar", *where, "--log", "json"),
        cwd=folder,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "OLLAMA_HOST": "http://127.0.0.1:9"}
        | releases.environment(release),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def done(hub: RunningHub) -> dict[str, Any]:
    """A task with a check, as it ends on the only agent that there is."""
    spec = {
        "command": "echo done > made.txt",
        "verification": [{"type": "file_exists", "path": "made.txt"}],
    }
    made = await (await hub.ask("POST", "/api/v1/tasks", json=spec)).json()
    async with asyncio.timeout(WAIT_S):
        while True:
            found: dict[str, Any] = await (await hub.ask("GET", f"/api/v1/tasks/{made['id']}")).json()
            if found["state"] in {"completed", "failed", "dead"}:
                return found
            await asyncio.sleep(0.05)


async def test_a_sidecar_from_long_ago_still_works(hub: RunningHub, tmp_path: Path) -> None:
    async with sidecar(hub, tmp_path, older(tmp_path / "older"), "Old-Timer"):
        task = await done(hub)

        assert (task["state"], task["execution_ok"], task["verified"]) == ("completed", True, True)
        assert task["agent"] == "Old-Timer"


async def test_a_sidecar_of_the_next_protocol_version_still_works(hub: RunningHub, tmp_path: Path) -> None:
    release = releases.whole(tmp_path / "next", "0.2.0", NEXT)
    async with sidecar(hub, tmp_path, release, "Newcomer"):
        task = await done(hub)
        agent = await (await hub.ask("GET", "/api/v1/agents/Newcomer")).json()

        assert (task["state"], task["verified"], agent["version"]) == ("completed", True, "0.2.0")


@pytest.mark.soak
async def test_a_sidecar_two_protocol_versions_ahead_ends_with_one_clear_word(hub: RunningHub, tmp_path: Path) -> None:
    release = releases.whole(tmp_path / "after next", "0.3.0", AFTER_NEXT)
    async with sidecar(hub, tmp_path, release, "Too-New") as process:
        async with asyncio.timeout(WAIT_S):
            _, said = await process.communicate()

        assert process.returncode == 2
        lines = [line for line in said.decode().splitlines() if "version_mismatch" in line]
        assert len(lines) == 1, said
        assert "the peer speaks 2 to 3; upgrade this side" in lines[0]


@pytest.mark.soak
@pytest.mark.parametrize("changes, is_welcome", [(NEXT, True), (AFTER_NEXT, False)], ids=["one ahead", "two ahead"])
def test_a_hub_that_went_ahead_takes_the_sidecars_of_one_version_before(
    tmp_path: Path, changes: dict[str, tuple[str, str]], is_welcome: bool
) -> None:
    release = releases.whole(tmp_path / "ahead", "0.2.0", changes)
    with mesh(tmp_path, hub_env=releases.environment(release)) as running:
        running.start_sidecar("Today")
        process = running.sidecars["Today"]
        if is_welcome:
            running.wait_agents("Today")
            assert running.wait(running.submit(command="true"))[0]["state"] == "completed"
            return
        until(lambda: process.poll() is not None, "it gives up", timeout_s=WAIT_S)
        assert process.returncode == 2
        looks = [sys.executable, "-m", "agentcom", "join", running.url, "--foreground", "--dry-run"]
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path / "home")}
        joins = subprocess.run(looks, check=False, capture_output=True, text=True, env=env, timeout=WAIT_S)
        assert (joins.returncode, "we speak 1 to 1, the peer speaks 2 to 3" in joins.stderr) == (5, True), joins.stderr
        assert not (tmp_path / "home").exists()
        assert "upgrade the peer" in running.logs()

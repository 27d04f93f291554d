"""A hub equips machines without AgentCom: a script whose hash its command has, and wheels of all that runs here."""

import asyncio
import hashlib
import io
import json
import os
import signal
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.core import porch
from hub.web import install
from hub.web.install import SCRIPT_HASH
from hub.wheels import pack
from tests.support.running_hub import RunningHub, running_hub

RUNBOOKS = Path(__file__).parents[2] / "docs" / "operate" / "runbooks.md"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path / "hub") as running:
        yield running


async def get(hub: RunningHub, path: str) -> tuple[int, bytes]:
    answer = await hub.ask("GET", path, role=None)
    return answer.status, (await answer.text("latin-1")).encode("latin-1")


async def test_what_is_served_is_what_is_promised_and_nothing_else_is_served(
    hub: RunningHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Packing takes longer than a stranger may wait for an answer, as on a slow hub.
    monkeypatch.setattr(porch, "ANSWER_S", 0.5)
    monkeypatch.setattr(install, "LOOK_S", 0.1)  # the one who waits looks so often
    packed = tmp_path / "hub" / "install"
    packed.mkdir()
    (packed / "agentcom-0.0.1-py3-none-any.whl").write_bytes(b"of a release before")
    _, script = await get(hub, "/install.sh")
    _, told = await get(hub, "/install/manifest.json")
    wheels = json.loads(told)["wheels"]
    _, ours = await get(hub, f"/install/{wheels[0]['name']}")

    assert hashlib.sha256(script).hexdigest() == SCRIPT_HASH
    assert hashlib.sha256(ours).hexdigest() == wheels[0]["sha256"]
    assert {"aiohttp", "websockets", "msgspec"} <= {wheel["name"].partition("-")[0] for wheel in wheels}
    packed_files = zipfile.ZipFile(io.BytesIO(ours))
    names = packed_files.namelist()
    assert packed_files.read("dashboard/static/runbooks.md") == RUNBOOKS.read_bytes()
    assert {"hub/web/static/install.sh", "provisioning/units/sidecar.service", "agentcom/cli/join.py"} <= {*names}
    assert not [name for name in names if name.startswith(("/", "..", "tests/")) or name.endswith(".pyc")]
    assert {path.name for path in packed.glob("*.whl")} == {wheel["name"] for wheel in wheels}
    assert sum(wheel["size_bytes"] for wheel in wheels) < 60 << 20

    # What is packed is packed once, and a file that was damaged since is packed again.
    other = next(wheel for wheel in wheels if wheel["name"].startswith("websockets"))
    ages = {path.name: path.stat().st_mtime_ns for path in packed.glob("*.whl")}
    (packed / other["name"]).write_bytes(b"damaged")
    assert [wheel.sha256 for wheel in pack(packed).wheels] == [wheel["sha256"] for wheel in wheels]
    same = {path.name for path in packed.glob("*.whl") if path.stat().st_mtime_ns == ages[path.name]}
    assert same == ages.keys() - {wheels[0]["name"], other["name"]}
    for name in ("nobody.whl", "..%2fadmin.token", "%2e%2e%2fadmin.token"):
        assert (await get(hub, f"/install/{name}"))[0] == 404


@pytest.mark.soak
async def test_a_bare_machine_is_installed_and_takes_part_without_another_network(
    hub: RunningHub, tmp_path: Path
) -> None:
    made = await (await hub.ask("POST", "/api/v1/join-tokens", json={"url": hub.url})).json()
    home = tmp_path / "home"
    home.mkdir()
    where = f"--foreground --state-dir {home}/state --config {home}/etc/sidecar.toml"
    process = await asyncio.create_subprocess_shell(
        f"exec sh -c '{made['install']} {where}'" if "'" not in made["install"] else "",
        cwd=home,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "https_proxy": "http://127.0.0.1:9"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = ""
    async with asyncio.timeout(110):
        while "takes part" not in said:
            line = await process.stdout.readline()
            assert line, said
            said += line.decode()
    os.killpg(process.pid, signal.SIGTERM)  # the shell waits for the machine, and would leave it alone
    await process.communicate()

    assert "installed AgentCom" in said
    assert "done and verified" in said

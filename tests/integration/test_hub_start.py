"""The promises of starting and ending a hub: one a directory, clear refusals, and what was acknowledged is kept."""

import asyncio
import json
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hub.app import start_hub
from hub.settings import Settings, load
from protocol.errors import BadInput, StoreFailed
from tests.support.running_hub import running_hub


def settings(folder: Path, listen: str = "127.0.0.1:0") -> Settings:
    return load({"data_dir": str(folder), "listen": listen}, env={})[0]


async def test_a_second_hub_is_kept_out_of_the_directory_of_the_first(tmp_path: Path) -> None:
    async with running_hub(tmp_path):
        with pytest.raises(BadInput, match="another hub uses"):
            await start_hub(settings(tmp_path))


async def test_a_hub_that_ended_in_order_is_missed_by_nobody(tmp_path: Path) -> None:
    async with running_hub(tmp_path):
        pass
    async with running_hub(tmp_path) as again:
        kinds = [event.kind for event in await again.running.store.events(0, 100)]

    assert kinds.count("hub_stopped") == 1
    assert "hub_lost" not in kinds


async def test_an_address_in_use_is_refused_in_words_and_leaves_the_directory_free(tmp_path: Path) -> None:
    async with running_hub(tmp_path / "one") as one:
        port = one.url.rsplit(":", 1)[1]
        with pytest.raises(BadInput, match=f"cannot listen on 127.0.0.1:{port}: "):
            await start_hub(settings(tmp_path / "two", f"127.0.0.1:{port}"))

    async with running_hub(tmp_path / "two") as two:
        assert (await two.ask("GET", "/healthz", role=None)).status == 200


async def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(BadInput, match="cannot use"):
        await start_hub(settings(tmp_path / "file" / "x"))


async def test_a_store_that_is_none_is_refused_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "hub.sqlite").write_bytes(b"something else entirely" * 500)

    with pytest.raises(StoreFailed, match="does not begin as a store does"):
        await start_hub(settings(tmp_path))
    assert (tmp_path / "hub.sqlite").read_bytes() == b"something else entirely" * 500


async def test_secrets_and_data_are_for_their_owner_alone(tmp_path: Path) -> None:
    async with running_hub(tmp_path / "hub"):
        modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in (tmp_path / "hub").iterdir()}

    assert stat.S_IMODE((tmp_path / "hub").stat().st_mode) == 0o700
    assert {
        name: mode for name, mode in modes.items() if name.endswith((".token", ".sqlite", "-wal")) and mode & 0o077
    } == {}


async def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as first:
        made = await first.ask("POST", "/api/v1/tasks", json={"title": "x"}, headers={"Idempotency-Key": "k"})
        task = (await made.json())["id"]
        token = first.tokens["admin"]
    async with running_hub(tmp_path) as second:
        again = await second.ask("POST", "/api/v1/tasks", json={"title": "x"}, headers={"Idempotency-Key": "k"})
        assert (await again.json())["id"] == task
        assert second.tokens["admin"] == token
        newer = await second.ask("POST", "/api/v1/tasks", json={"title": "y"})
        assert (await newer.json())["id"] > task


BAD_WRITES = """
    import asyncio, json, resource, signal, sys
    import aiohttp
    from hub.app import start_hub
    from hub.settings import load

    async def main(folder):
        settings, _ = load({"data_dir": folder, "listen": "127.0.0.1:0"}, env={})
        hub = await start_hub(settings)
        token = open(folder + "/admin.token").read().strip()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (800_000, 800_000))  # no larger: not what a full disk says
        kept, refused = [], 0
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as client:
            for number in range(400):
                body = {"title": f"task {number}", "prompt": "x" * 5_000}
                async with client.post(hub.url + "/api/v1/tasks", json=body) as answer:
                    if answer.status == 201:
                        kept.append((await answer.json())["id"])
                    else:
                        refused = answer.status
                        problem = await answer.json()
                        break
        failed = repr(await asyncio.wait_for(hub.failed, 10))
        print(json.dumps({"kept": kept, "refused": refused, "code": problem["code"], "failed": failed}), flush=True)

    asyncio.run(main(sys.argv[1]))
"""


async def test_a_write_error_ends_the_hub_and_every_acknowledged_task_is_kept(tmp_path: Path) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", textwrap.dedent(BAD_WRITES), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr[-3_000:]
    said = json.loads(lines[-1])

    assert (said["refused"], said["code"]) == (503, "store_failed")
    assert "StoreFailed" in said["failed"]
    assert said["kept"]
    async with running_hub(tmp_path) as hub:
        for task in said["kept"]:
            assert (await hub.ask("GET", f"/api/v1/tasks/{task}")).status == 200

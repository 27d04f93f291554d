"""The real Prometheus and Alertmanager, as processes on ports that they choose themselves.

``./run test`` unpacks them from their Debian packages; where there are none, tests that need them are skipped.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil
import pytest

from tests.support.mesh import LOOK_S, PATIENCE_S

_PLACES: Final = os.pathsep.join(
    (os.environ.get("PATH", ""), str(Path(__file__).parents[2] / ".cache" / "prometheus" / "usr" / "bin"))
)


def program(name: str) -> str:
    """Where a program of theirs is; the test is skipped if it is not there."""
    found = shutil.which(name, path=_PLACES)
    if found is None:
        pytest.skip(f"this machine has no {name} (apt install prometheus prometheus-alertmanager)")
    return found


def said(name: str, *arguments: str | Path) -> str:
    """What a program says that has to be content with what it is given."""
    done = subprocess.run([program(name), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextlib.asynccontextmanager
async def _running(folder: Path, name: str, *arguments: str) -> AsyncIterator[str]:
    """A server, and its address."""
    with (folder / f"{name}.log").open("wb") as file:
        process = await asyncio.create_subprocess_exec(program(name), *arguments, stdout=file, stderr=file)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not (port := _port(process.pid)):
                await asyncio.sleep(LOOK_S)
                assert process.returncode is None, (folder / f"{name}.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _port(pid: int) -> int:
    with contextlib.suppress(psutil.NoSuchProcess):  # it has ended; its log says why
        for connection in psutil.Process(pid).net_connections("tcp4"):
            if connection.status == psutil.CONN_LISTEN:
                return int(connection.laddr.port)
    return 0


@contextlib.asynccontextmanager
async def alertmanager(folder: Path, config: dict[str, Any]) -> AsyncIterator[str]:
    """An Alertmanager that waits for nothing; its address. (Files are written as JSON, which is YAML, too.)"""
    if not Path("/usr/share/prometheus/alertmanager/default.tmpl").is_file():
        pytest.skip("Alertmanager's templates are not where it looks for them (apt install prometheus-alertmanager)")
    route = config["route"]
    for each in (route, *route["routes"]):
        each |= {"group_wait": "1s", "group_interval": "1s", "repeat_interval": "1h"}
    path = folder / "alertmanager.yaml"
    path.write_text(json.dumps(config))
    listen = ("--web.listen-address=127.0.0.1:0", "--cluster.listen-address=")
    flags = (f"--config.file={path}", f"--storage.path={folder / 'alertmanager'}", *listen)
    async with _running(folder, "prometheus-alertmanager", *flags) as url:
        yield url


@contextlib.asynccontextmanager
async def prometheus(
    folder: Path, rules: dict[str, Any], alertmanager_url: str, target: str, token: str
) -> AsyncIterator["Prometheus"]:
    """A Prometheus that looks at a hub every second.

    Args:
        folder: for its files.
        rules: the content of its file of rules.
        alertmanager_url: who is told.
        target: host and port of the hub.
        token: one that may read metrics.
    """
    (folder / "rules.yaml").write_text(json.dumps(rules))
    (folder / "token").write_text(token)
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager_url.removeprefix("http://")]}]}]},
        "scrape_configs": [
            {
                "job_name": "agentcom",
                "authorization": {"credentials_file": "token"},
                "static_configs": [{"targets": [target]}],
            }
        ],
    }
    path = folder / "prometheus.yaml"
    path.write_text(json.dumps(config))
    flags = (f"--config.file={path}", f"--storage.tsdb.path={folder / 'tsdb'}", "--web.listen-address=127.0.0.1:0")
    async with _running(folder, "prometheus", *flags) as url, aiohttp.ClientSession(url) as client:
        yield Prometheus(client)


class Prometheus:
    """What a Prometheus knows."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self._client = client

    async def ask(self, expr: str) -> list[dict[str, Any]]:
        """The answer to an expression, now: series with their labels and value."""
        async with self._client.post("/api/v1/query", data={"query": expr}) as answer:
            found = json.loads(await answer.read())
        assert found["status"] == "success", (expr, found)
        result: list[dict[str, Any]] = found["data"]["result"]
        return result

    async def until(self, expr: str) -> list[dict[str, Any]]:
        """The first answer that has anything in it."""
        async with asyncio.timeout(PATIENCE_S):
            while not (found := await self.ask(expr)):  # noqa: ASYNC110 - it is another process: it is asked
                await asyncio.sleep(0.1)
        return found


def names_in(expressions: Iterable[str]) -> set[str]:
    """Metrics of ours that these name."""
    return set(re.findall(r"(?<![:\w])agentcom_\w+", "\n".join(expressions)))

"""The OpenAPI document is valid, and what it promises holds for requests that nobody thought of."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.running_hub import RunningHub, running_hub

schemathesis = pytest.importorskip("schemathesis")
STREAMS = ("/api/v1/events", "/api/v1/logs", "/api/v1/metrics/stream", "/mesh")


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as running:
        yield running


async def test_every_reference_in_the_document_leads_somewhere(hub: RunningHub) -> None:
    document = await (await hub.ask("GET", "/openapi.json")).json()

    def refs(part: object) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            return own + [ref for value in part.values() for ref in refs(value)]
        return [ref for value in part for ref in refs(value)] if isinstance(part, list) else []

    found = refs(document)

    assert found
    for ref in found:
        place: Any = document
        for step in ref.removeprefix("#/").split("/"):
            place = place[step]


async def test_every_operation_tells_its_permission_and_its_problems(hub: RunningHub) -> None:
    document = await (await hub.ask("GET", "/openapi.json")).json()
    operations = [one for methods in document["paths"].values() for one in methods.values()]

    assert len({one["operationId"] for one in operations}) == len(operations)
    for one in operations:
        assert one["summary"]
        assert ("x-permission" in one) != (one.get("security") == [])


@pytest.mark.timeout(330)  # thousands of requests: what a slow machine needs, not what is hoped for
async def test_no_request_makes_the_hub_fail(hub: RunningHub, tmp_path: Path) -> None:
    """schemathesis makes requests from the document, good and bad ones; none may be answered with 5xx or another
    shape."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{hub.url}/openapi.json",
        "--header",
        f"Authorization: Bearer {hub.tokens['admin']}",
        "--checks",
        "not_a_server_error,content_type_conformance,response_schema_conformance,status_code_conformance",
        "--max-examples",
        "8",
        "--seed",
        "7",
        "--generation-deterministic",
        "--request-timeout",
        "10",
        "--no-color",
        # Streams never end, and what follows would ask without a token, or take the token away.
        *(part for path in STREAMS for part in ("--exclude-path", path)),
        *("--exclude-path", "/api/v1/tokens/{id}"),
    ]
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]

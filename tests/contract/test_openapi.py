"""The OpenAPI document is valid, and what it promises holds for requests that nobody thought of."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.running_hub import RunningHub, running_hub

schemathesis = pytest.importorskip("schemathesis")
ROOT = Path(__file__).parents[2]
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


async def test_what_was_made_leads_to_all_that_can_be_asked_about_it(hub: RunningHub) -> None:
    document = await (await hub.ask("GET", "/openapi.json")).json()
    operations = {one["operationId"]: path for path, ways in document["paths"].items() for one in ways.values()}
    links = document["paths"]["/api/v1/tasks"]["post"]["responses"]["201"]["links"]

    assert {"get_api_v1_tasks_id", "post_api_v1_tasks_id_cancel", "get_api_v1_tasks_id_logs"} <= links.keys()
    assert (
        "get_api_v1_projects_name_files" in document["paths"]["/api/v1/projects"]["post"]["responses"]["201"]["links"]
    )
    for name, link in links.items():
        assert operations[name].startswith("/api/v1/tasks/{id}")
        assert link["parameters"] == {"id": "$response.body#/id"}


@pytest.mark.timeout(330)  # more than a thousand requests: what a slow machine needs, not what is hoped for
async def test_no_request_makes_the_hub_fail(hub: RunningHub, tmp_path: Path) -> None:
    """schemathesis makes requests from the document, good and bad ones; none may be answered with 5xx or another
    shape. ``./run soak`` goes further."""
    await fuzz(hub, tmp_path, examples=5, phases="fuzzing", limit_s=300)


@pytest.mark.soak
@pytest.mark.timeout(3_300)
async def test_soak_no_request_makes_the_hub_fail(hub: RunningHub, tmp_path: Path) -> None:
    """Many more requests, at the edges of what the document allows, too."""
    told = await fuzz(hub, tmp_path, examples=60, phases="examples,coverage,fuzzing", limit_s=3_000)

    print(told[-1_500:])


@pytest.mark.soak
@pytest.mark.timeout(1_000)
async def test_soak_no_chain_of_requests_makes_the_hub_fail(hub: RunningHub, tmp_path: Path) -> None:
    """What was made is asked about, changed, and asked about again: links of the document are followed."""
    told = await fuzz(hub, tmp_path, examples=300, phases="stateful", limit_s=900)

    print(told[-1_500:])
    followed = re.search(r"(\d+) covered", told)
    assert followed is not None
    assert int(followed[1]) >= 1


async def fuzz(hub: RunningHub, tmp_path: Path, *, examples: int, phases: str, limit_s: float) -> str:
    """Let schemathesis ask; what it says at the end."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{hub.url}/openapi.json",
        "--header",
        f"Authorization: Bearer {hub.tokens['admin']}",
        "--checks",
        "not_a_server_error,content_type_conformance,response_schema_conformance,status_code_conformance",
        *("--phases", phases),
        *("--max-examples", str(examples)),
        *("--seed", "7"),
        "--generation-deterministic",
        *("--request-timeout", "10"),
        "--no-color",
        # Streams never end, and what follows would ask without a token, or take the token away.
        *(part for path in STREAMS for part in ("--exclude-path", path)),
        *("--exclude-path", "/api/v1/tokens/{id}"),
        *("--exclude-path", "/api/v1/projects/{name}/git/clone"),  # 502 is right: nobody answers there
    ]
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1", "SCHEMATHESIS_HOOKS": "tests.support.likely", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout

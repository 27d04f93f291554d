"""Files of attempts over HTTP: who may bring them, when they count, and how they are given out."""

import asyncio
import contextlib
import hashlib
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub.web.artifacts import disposition, wanted
from tests.support.foreign_agent import ForeignAgent, Plain
from tests.support.running_hub import RunningHub, running_hub

BODY = bytes(range(256)) * 8


@dataclass
class Held:
    """A hub with one attempt in the hands of a foreign agent."""

    hub: RunningHub
    agent: ForeignAgent
    task: str
    attempt: list[Any]

    async def bring(self, body: bytes = BODY, path: str = "out/a.bin", role: str = "agent", **asked: Any) -> Plain:
        """Upload a file of the attempt; the answer with its ``status``."""
        sidecar, boot, task, epoch = self.attempt
        query = {"sidecar": sidecar, "boot": boot, "epoch": epoch, "path": path}
        query |= {"sha256": hashlib.sha256(body).hexdigest(), **asked}
        answer = await self.hub.ask(
            "POST", f"/api/v1/tasks/{task}/artifacts", role=role, data=io.BytesIO(body), params=query
        )
        found: Plain = await answer.json()
        return found | {"status": answer.status}

    async def fetch(self, artifact: str, method: str = "GET", **headers: str) -> tuple[aiohttp.ClientResponse, bytes]:
        """Download a file."""
        answer = await self.hub.ask(method, f"/api/v1/artifacts/{artifact}/download", headers=headers)
        return answer, (await answer.text("latin-1")).encode("latin-1")

    async def listed(self) -> list[Plain]:
        """Files of the task."""
        answer = await self.hub.ask("GET", f"/api/v1/tasks/{self.task}/artifacts")
        found: list[Plain] = (await answer.json())["artifacts"]
        return found


@contextlib.asynccontextmanager
async def holding(folder: Path, **settings: object) -> AsyncIterator[Held]:
    async with running_hub(folder, **settings) as hub:
        agent = await ForeignAgent.join(hub.url, hub.tokens["agent"])
        made = await hub.ask("POST", "/api/v1/tasks", json={"command": "true", "executor": "shell"})
        task = (await made.json())["id"]
        assign = await agent.until("assign")
        await agent.tell("accept", assign["attempt"])
        yield Held(hub, agent, task, assign["attempt"])
        await agent.leave()


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[Held]:
    async with holding(tmp_path) as found:
        yield found


async def test_a_file_is_kept_listed_and_given_out_as_it_came(held: Held) -> None:
    kept = await held.bring()
    (listed,) = await held.listed()
    answer, body = await held.fetch(kept["id"])

    assert kept["status"] == 201
    assert listed["id"] == kept["id"]
    assert (listed["path"], listed["size_bytes"], listed["accepted"]) == ("out/a.bin", len(BODY), False)
    assert (answer.status, body) == (200, BODY)
    assert answer.headers["ETag"] == f'"{hashlib.sha256(BODY).hexdigest()}"'


async def test_a_browser_can_only_save_it(held: Held) -> None:
    kept = await held.bring(b"<script>alert(1)</script>", 'x/"; filename=evil.html')
    answer, _ = await held.fetch(kept["id"])

    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment; ")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert '"evil' not in answer.headers["Content-Disposition"]


async def test_parts_are_given_out_as_the_standard_says(held: Held) -> None:
    kept = await held.bring()
    tag = f'"{kept["sha256"]}"'

    middle, some = await held.fetch(kept["id"], Range="bytes=10-19")
    last, tail = await held.fetch(kept["id"], Range="bytes=-5")
    beyond, _ = await held.fetch(kept["id"], Range=f"bytes={len(BODY)}-")
    known, nothing = await held.fetch(kept["id"], **{"If-None-Match": tag})
    other, whole = await held.fetch(kept["id"], Range="bytes=0-1", **{"If-Range": '"other"'})
    head, empty = await held.fetch(kept["id"], "HEAD")

    assert (middle.status, some) == (206, BODY[10:20])
    assert middle.headers["Content-Range"] == f"bytes 10-19/{len(BODY)}"
    assert (last.status, tail) == (206, BODY[-5:])
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{len(BODY)}")
    assert (known.status, nothing) == (304, b"")
    assert (other.status, whole) == (200, BODY)
    assert (head.status, empty, head.headers["Content-Length"]) == (200, b"", str(len(BODY)))


@pytest.mark.parametrize(
    "header,found",
    [
        ("", (0, 10, False)),
        ("bytes=0-", (0, 10, True)),
        ("bytes=3-3", (3, 4, True)),
        ("bytes=3-99", (3, 10, True)),
        ("bytes=-3", (7, 10, True)),
        ("bytes=-99", (0, 10, True)),
        ("bytes=-0", (-1, 0, True)),
        ("bytes=10-", (-1, 0, True)),
        ("bytes=5-3", (0, 10, False)),
        ("bytes=-", (0, 10, False)),
        ("bytes=1-2,4-5", (0, 10, False)),
        ("items=1-2", (0, 10, False)),
        ("bytes=a-b", (0, 10, False)),
    ],
)
def test_a_range_is_read_as_the_standard_says(header: str, found: tuple[int, int, bool]) -> None:
    assert wanted(header, True, 10) == found


@pytest.mark.parametrize(
    "path", ["a.txt", "../../etc/passwd", 'q"uote.txt', "ünï.txt", ".bashrc", "x/" + "y" * 300, "%2e"]
)
def test_a_name_ends_up_in_a_header_without_power(path: str) -> None:
    header = disposition(path)
    plain = header.split('"')[1]

    assert header.count('"') == 2
    assert header.isascii()
    assert "/" not in plain
    assert not plain.startswith(".")


async def test_a_file_that_is_sent_again_is_the_same_one(held: Held) -> None:
    first = await held.bring()
    again = await held.bring()
    other = await held.bring(b"new")

    assert first["id"] == again["id"] == other["id"]
    (listed,) = await held.listed()
    assert listed["size_bytes"] == 3


async def test_a_file_of_an_attempt_that_does_not_count_is_refused(held: Held) -> None:
    answers = [await held.bring(**asked) for asked in ({"epoch": 2}, {"boot": 9}, {"sidecar": "Somebody Else"})]

    assert [(answer["status"], answer["code"]) for answer in answers] == [(409, "stale")] * 3
    assert await held.listed() == []


async def test_a_file_that_comes_after_the_report_does_not_count(held: Held) -> None:
    await held.agent.report(held.attempt)
    await held.agent.until("ack")

    answer = await held.bring()

    assert (answer["status"], answer["code"]) == (409, "stale")
    assert await held.listed() == []


async def test_an_upload_that_loses_its_attempt_on_the_way_does_not_count(held: Held) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield BODY[:100]
        begun.set()
        await go_on.wait()
        yield BODY[100:]

    sidecar, boot, task, epoch = held.attempt
    query = {"sidecar": sidecar, "boot": boot, "epoch": epoch, "path": "a", "sha256": hashlib.sha256(BODY).hexdigest()}
    url = f"{held.hub.url}/api/v1/tasks/{task}/artifacts"
    headers = {**held.hub.bearer("agent"), "Content-Length": str(len(BODY))}
    sending = asyncio.create_task(held.hub.client.post(url, params=query, data=body(), headers=headers))
    async with asyncio.timeout(20):
        await begun.wait()
    await held.hub.ask("POST", f"/api/v1/tasks/{task}/cancel")
    go_on.set()
    async with asyncio.timeout(20):
        answer = await sending

    assert answer.status == 409
    assert await held.listed() == []


async def test_what_is_not_as_announced_is_refused(held: Held) -> None:
    paths = ("../up", "/etc/passwd", "a\\b", "a\nb", "", "x/../../y", "~/x")
    wrong: list[Plain] = [{"sha256": "0" * 64}, {"sha256": "A" * 64}, {"epoch": "x"}, *({"path": p} for p in paths)]

    answers = [await held.bring(**asked) for asked in wrong]

    assert [answer["status"] for answer in answers] == [422] * len(wrong)
    assert await held.listed() == []


async def test_files_have_limits_that_say_what_they_are(tmp_path: Path) -> None:
    async with holding(tmp_path, artifact_max_mb=1, artifacts_of_task_mb=2, artifacts_mb=3) as held:
        mib = bytes(1 << 20)
        too_large = await held.bring(mib + b"x")
        statuses = [(await held.bring(mib, f"f{number}"))["status"] for number in range(3)]

    assert too_large["status"] == 413
    assert "artifact_max_mb" in too_large["detail"]
    assert statuses == [201, 201, 413]


async def test_a_store_that_is_full_says_so_and_when_to_come_back(tmp_path: Path) -> None:
    async with holding(tmp_path, artifacts_mb=1) as held:
        mib = bytes(1 << 20)
        first = await held.bring(mib, "a")
        query = dict(zip(("sidecar", "boot", "task", "epoch"), held.attempt, strict=True)) | {"path": "b"}
        task = query.pop("task")
        query["sha256"] = hashlib.sha256(b"x").hexdigest()
        answer = await held.hub.ask("POST", f"/api/v1/tasks/{task}/artifacts", data=b"x", params=query)

    assert first["status"] == 201
    assert (answer.status, answer.headers["Retry-After"]) == (507, "5")


async def test_nobody_else_may_bring_files(held: Held) -> None:
    answers = [(await held.bring(role=role))["status"] for role in ("viewer", "submitter", "operator")]

    assert answers == [403, 403, 403]


async def test_an_unknown_file_is_not_found(held: Held) -> None:
    for artifact in ("x", "01hzzzzzzzzzzzzzzzzzzzzzzz", "..%2f..%2fhub.sqlite"):
        answer, _ = await held.fetch(artifact)
        assert answer.status == 404


async def test_a_draft_that_a_crash_has_left_is_gone_at_the_next_start(tmp_path: Path) -> None:
    left = tmp_path / "artifacts" / "incoming" / "0123"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")

    async with running_hub(tmp_path):
        assert not left.exists()

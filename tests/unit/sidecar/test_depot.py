"""The promises of bringing files to a hub: when an answer ends an attempt, when it is asked again, what is not read."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from protocol.model import AttemptId, FailureClass
from protocol.tree import Tree
from sidecar.depot import HubDepot
from sidecar.errors import LeaseOver, UploadFailed
from tests.support.serving import served

ATTEMPT = AttemptId("A", 1, f"{1:026}", 1)
STALE = (409, {"type": "about:blank", "title": "stale", "status": 409, "code": "stale", "detail": "stale"})
KEPT = (201, {"id": "x", "task": ATTEMPT.task, "epoch": 1, "path": "a", "size_bytes": 1, "sha256": "0" * 64,
              "at": "2026-01-01T00:00:00Z"})  # fmt: skip


class Wire:
    """A line as the depot sees it."""

    artifacts_bytes = 0

    def __init__(self, hub: str, connection: int, artifact_bytes: int = 0) -> None:
        self.hub, self.connection, self.artifact_bytes = hub, connection, artifact_bytes


@asynccontextmanager
async def bringing(
    connection: int, answers: Callable[[Wire, int], tuple[int, object]], artifact_bytes: int = 0
) -> AsyncIterator[tuple[HubDepot, list[int]]]:
    """A depot whose hub gives these answers, and the lengths of what it was sent."""
    came: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        came.append(len(await request.read()))
        status, body = answers(wire, len(came))
        return web.json_response(body, status=status)

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    async with served(app) as url:
        wire = Wire(url, connection, artifact_bytes)
        depot = HubDepot(lambda: wire, lambda: "token")
        try:
            async with asyncio.timeout(60):
                yield depot, came
        finally:
            await depot.close()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    (tmp_path / "a").write_text("x")
    return Tree(tmp_path)


async def test_a_hub_that_knows_us_and_does_not_know_the_attempt_ends_it(tree: Tree) -> None:
    async with bringing(3, lambda _wire, _count: STALE) as (depot, came):
        with pytest.raises(LeaseOver):
            await depot.bring(ATTEMPT, tree, "a")

    assert len(came) == 1


async def test_a_hub_that_has_not_welcomed_us_yet_is_asked_again(tree: Tree) -> None:
    def answers(wire: Wire, count: int) -> tuple[int, object]:
        wire.connection = 4  # it has welcomed us when its answer has come
        return STALE if count == 1 else KEPT

    async with bringing(0, answers) as (depot, came):
        kept = await depot.bring(ATTEMPT, tree, "a")

    assert kept is not None
    assert len(came) == 2


@pytest.mark.parametrize("then", [0, 4])
async def test_an_answer_from_the_other_side_of_a_change_of_hubs_ends_nothing(tree: Tree, then: int) -> None:
    def answers(wire: Wire, count: int) -> tuple[int, object]:
        wire.connection = then  # the line has broken meanwhile, or has broken and stands again
        return STALE if count == 1 else KEPT

    async with bringing(3, answers) as (depot, came):
        kept = await depot.bring(ATTEMPT, tree, "a")

    assert kept is not None
    assert len(came) == 2


@pytest.mark.parametrize("most", [0, 1 << 20])
async def test_a_file_beyond_the_limit_is_not_even_read(tree: Tree, most: int) -> None:
    with (tree.root / "huge").open("wb") as file:
        file.truncate(1 << 42)  # hashing that would take an hour

    async with bringing(3, lambda _wire, _count: KEPT, most) as (depot, came):
        with pytest.raises(UploadFailed, match="artifact_max_mb") as refused:
            await depot.bring(ATTEMPT, tree, "huge")

    assert refused.value.failure is FailureClass.INPUT
    assert came == []

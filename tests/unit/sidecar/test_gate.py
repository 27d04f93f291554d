"""What a sidecar makes of a hub's answer when it asks for a way to a repository."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from protocol.model import AttemptId
from sidecar.errors import LeaseOver, RepositoryUnreachable
from sidecar.gate import HubGate, Way
from tests.support.serving import served

ATTEMPT = AttemptId("One", 7, "01j0000000000000000000000a", 3)
ADDRESS = "https://example.org/r.git"


@contextlib.asynccontextmanager
async def hub(*answers: tuple[int, Any]) -> AsyncIterator[tuple[str, list[web.Request]]]:
    """A hub that gives these answers, one after the other, the last one again and again; and what it was asked."""
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request)
        status, body = answers[min(len(asked), len(answers)) - 1]
        return web.json_response(body, status=status)

    app = web.Application()
    app.router.add_post("/api/v1/tasks/{id}/git-access", answer)
    async with served(app) as url:
        yield url, asked


def gate(url: str, patience_s: float = 0.0) -> HubGate:
    return HubGate(lambda: url, lambda: "acm_x", patience_s=patience_s)


async def test_a_way_is_asked_for_one_attempt_and_told_to_git_by_its_environment_only() -> None:
    async with hub((201, {"path": "/api/v1/tasks/t/repository.git", "token": "s3cr3t"})) as (url, asked):
        way = await gate(url).way(ATTEMPT, ADDRESS)

    assert way == Way(f"{url}/api/v1/tasks/t/repository.git", "s3cr3t")
    assert dict(asked[0].query) == {"sidecar": "One", "boot": "7", "epoch": "3"}
    assert asked[0].match_info["id"] == ATTEMPT.task
    assert asked[0].headers["Authorization"] == "Bearer acm_x"
    env = way.env()
    assert env["GIT_CONFIG_KEY_0"] == f"http.{way.address}.extraHeader", "for this address and no other"
    assert [name for name, value in env.items() if "s3cr3t" in value] == ["GIT_CONFIG_VALUE_0"]


@pytest.mark.parametrize("status", [403, 404, 405])
async def test_a_hub_that_knows_no_way_leaves_git_to_itself(status: int) -> None:
    async with hub((status, {})) as (url, _):
        assert await gate(url).way(ATTEMPT, ADDRESS) is None


async def test_an_attempt_that_does_not_count_any_more_is_over() -> None:
    async with hub((409, {"code": "stale"})) as (url, _):
        with pytest.raises(LeaseOver):
            await gate(url).way(ATTEMPT, ADDRESS)


@pytest.mark.parametrize("answer", [(500, {}), (503, {}), (201, {"odd": 1}), (201, [])])
async def test_a_hub_that_answers_nothing_useful_is_worth_another_try(answer: tuple[int, Any]) -> None:
    async with hub(answer) as (url, _):
        with pytest.raises(RepositoryUnreachable, match="when asked for a credential"):
            await gate(url).way(ATTEMPT, ADDRESS)


async def test_a_hub_that_is_away_for_a_moment_is_waited_for() -> None:
    async with hub((503, {}), (201, {"path": "/p", "token": "t"})) as (url, asked):
        assert await gate(url, patience_s=60.0).way(ATTEMPT, ADDRESS) == Way(f"{url}/p", "t")
    with pytest.raises(RepositoryUnreachable, match="does not answer"):
        await gate(url).way(ATTEMPT, ADDRESS)

    assert len(asked) == 2

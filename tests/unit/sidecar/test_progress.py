"""The promises of work in progress on this machine: when it stops, when it is forgotten, when it is asked for again."""

import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from protocol.checks import CheckFileExists
from protocol.messages import Pause, Report
from protocol.model import AttemptState, Context, FailureClass, TaskSpec, Usage
from protocol.progress import DOCUMENT, MAX_DOCUMENT_BYTES, Left, Saved, is_for_machines, wip_ref
from sidecar.depot import HubDepot
from sidecar.errors import LeaseOver, ProgressUnheard
from sidecar.executors.base import Execution, Pauses, Work
from sidecar.executors.transcript import Transcript
from sidecar.llm.base import ChatMessage
from sidecar.runner import Runner
from sidecar.shelf import HubShelf
from sidecar.shop import Shop
from sidecar.wip import WipWorkspaces
from sidecar.workspace import Workspace
from tests.support.repositories import git, make_remote
from tests.support.runners import Bench, assign, attempt, make
from tests.support.serving import served

AWAY = (503, {"detail": "not now"})


class Keeper:
    """A hub that takes what it is brought, but for files of the task if ``is_full``, and gives ``answers`` in turn."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.answers: list[tuple[int, Any]] = []
        self.asked = 0
        self.is_full = False
        self.looks: Callable[[], object] = lambda: None
        self.hub, self.connection, self.artifact_bytes, self.artifacts_bytes = "", 3, 0, 0

    async def take(self, request: web.Request) -> web.Response:
        """Keep a file."""
        path, body = request.query["path"], await request.read()
        if self.is_full and not is_for_machines(path):
            self.looks()
            return web.json_response({"detail": "too large"}, status=413)
        self.kept.append(path)
        view = {"id": "x", "task": request.match_info["task"], "epoch": 1, "path": path, "size_bytes": len(body)}
        return web.json_response({**view, "sha256": "0" * 64, "at": "2026-01-01T00:00:00Z"}, status=201)

    async def left(self, _request: web.Request) -> web.Response:
        """Say what was left."""
        self.asked += 1
        status, body = self.answers[min(self.asked, len(self.answers)) - 1]
        return web.Response(body=msgspec.json.encode(body), status=status)


@pytest.fixture
async def keeper() -> AsyncIterator[Keeper]:
    keeper, app = Keeper(), web.Application(client_max_size=1 << 30)
    app.router.add_post("/api/v1/tasks/{task}/artifacts", keeper.take)
    app.router.add_get("/api/v1/tasks/{task}/progress", keeper.left)
    async with served(app) as keeper.hub:
        yield keeper


@pytest.fixture
async def shelf(keeper: Keeper) -> AsyncIterator[HubShelf]:
    shelf = HubShelf(lambda: keeper, lambda: "token", patience_s=0.0)
    yield shelf
    await shelf.close()


class Watching(WipWorkspaces):
    """Workspaces that look at something before they deliver."""

    looks: Callable[[], object] = staticmethod(lambda: None)

    async def push(self, workspace: Workspace) -> bool:
        self.looks()
        return await super().push(workspace)


@pytest.fixture
async def bench(tmp_path: Path, keeper: Keeper, shelf: HubShelf) -> AsyncIterator[Bench]:
    made = make(tmp_path)
    shelf.ask_again_s = 0.0
    depot = HubDepot(lambda: keeper, lambda: "token", patience_s=0.0)
    workspaces = Watching(tmp_path / "work", made.parts.processes)
    parts = dataclasses.replace(made.parts, workspaces=workspaces, shelf=shelf, depot=depot)
    bench = dataclasses.replace(made, parts=parts, runner=Runner("Arbitrary", 2, Shop(parts), made.journal, made.sent))
    yield bench
    await bench.runner.stop()
    await depot.close()
    bench.journal.close()


class Turner:
    """An executor that makes one turn, of which it says ``text``."""

    name = "turner"
    pauses: Pauses = "turn"

    def __init__(self, text: str, before: Callable[[], None] = lambda: None) -> None:
        self.text, self.before, self.works = text, before, list[Work]()

    async def execute(self, work: Work) -> Execution:
        """Make the turn."""
        self.works.append(work)
        self.before()
        await work.turned(Transcript(turns=1, messages=(ChatMessage("user", self.text),)))
        return Execution(ok=True, output="done", summary="done", usage=Usage(model="m"))


async def _report(bench: Bench, turner: Turner, epoch: int = 1) -> Report:
    bench.parts.executors["turner"] = turner  # type: ignore[index]  # a dict behind a read-only type
    bench.runner.assigned(assign(TaskSpec(prompt="x"), executor="turner", epoch=epoch))
    await bench.sent.until(lambda: bench.sent.of(Report))
    return bench.sent.of(Report)[0]


# --- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, state", [("short", AttemptState.CANCELLED), ("x" * (MAX_DOCUMENT_BYTES + 1), AttemptState.PASSED)]
)
async def test_work_stops_only_where_it_was_kept(bench: Bench, keeper: Keeper, text: str, state: AttemptState) -> None:
    pause = Pause(attempt=attempt(), reason="lunch")
    report = await _report(bench, Turner(text, lambda: bench.runner.wish(pause)))

    assert report.state is state
    assert (DOCUMENT in keeper.kept) is (state is AttemptState.CANCELLED)
    assert ("goes on: what was done could not be kept" in bench.sent.output) is (state is AttemptState.PASSED)


async def test_text_that_is_no_unicode_is_not_kept_and_fails_nothing(bench: Bench, keeper: Keeper) -> None:
    report = await _report(bench, Turner("half \ud800"))

    assert report.state is AttemptState.PASSED, report.result.error
    assert DOCUMENT not in keeper.kept
    assert "work in progress is not kept" in bench.sent.output


# --- forgetting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_full", [False, True])
async def test_the_ref_of_the_work_goes_only_when_it_was_delivered_or_has_failed(
    bench: Bench, keeper: Keeper, tmp_path: Path, is_full: bool
) -> None:
    remote = make_remote(tmp_path, {"README": "hello\n"}).path
    seen: list[str] = []

    def look() -> None:
        seen.append(git(remote, "for-each-ref", "--format=%(refname)", "refs/agentcom"))

    keeper.is_full, keeper.looks = is_full, look
    bench.parts.workspaces.looks = look  # type: ignore[attr-defined]  # it is the one above
    spec = TaskSpec(
        command='touch new; [ "$AGENTCOM_ITERATION" = 1 ] || touch made',
        context=Context(repo=str(remote)), verification=(CheckFileExists(path="made"),), artifacts=("new",),
    )  # fmt: skip
    report = await bench.report(spec)

    assert (report.state, report.failure) == (
        (AttemptState.FAILED, FailureClass.INPUT) if is_full else (AttemptState.PASSED, None)
    ), report.result.error
    assert seen == [wip_ref(attempt().task, 1)]
    assert git(remote, "for-each-ref", "refs/agentcom") == ""


# --- going on ---------------------------------------------------------------------------------------------------------


async def test_a_hub_that_is_away_for_a_moment_is_asked_again(keeper: Keeper, shelf: HubShelf) -> None:
    left = Left(epoch=1, saved=Saved(iteration=1, turn=2))
    keeper.answers = [AWAY, (200, left)]

    assert await shelf.left(attempt(epoch=2)) == left
    assert keeper.asked == 2


@pytest.mark.parametrize("status, error", [(404, None), (409, LeaseOver)])
async def test_an_answer_that_says_it_all_is_taken_at_once(
    keeper: Keeper, shelf: HubShelf, status: int, error: type[Exception] | None
) -> None:
    keeper.answers = [(status, {"detail": "x"})]

    if error is None:
        assert await shelf.left(attempt(epoch=2)) == Left()
    else:
        with pytest.raises(error):
            await shelf.left(attempt(epoch=2))
    assert keeper.asked == 1


async def test_without_an_answer_the_attempt_is_lost_and_nothing_begins_anew(bench: Bench, keeper: Keeper) -> None:
    turner = Turner("anew")
    keeper.answers = [AWAY]
    report = await _report(bench, turner, epoch=2)

    assert (report.state, report.failure) == (AttemptState.LOST, FailureClass.INFRA)
    assert report.result.error_code == ProgressUnheard.code
    assert "it answers 503" in report.result.error
    assert turner.works == []

"""An attempt that waits for a model: how it comes along is told, and whatever stops the attempt stops the model."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import Raw

from protocol import codec
from protocol.endpoints import EndpointKind, EndpointReport
from protocol.loads import Answering, AnswerPhase
from protocol.messages import Assign, Cancel, Report
from protocol.model import AttemptState, Budget, FailureClass, Routing, TaskSpec
from tests.support.ollama_server import OllamaServer, Reply
from tests.support.runners import TIER, Bench, attempt, make

PATIENCE_S = 30


@pytest.fixture
async def ollama() -> AsyncIterator[OllamaServer]:
    server = OllamaServer(script=[Reply("first some words, then silence", hold=asyncio.Event())])
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def bench(tmp_path: Path, ollama: OllamaServer) -> AsyncIterator[Bench]:
    bench = make(tmp_path)
    bench.parts.endpoints.adopt(EndpointReport(id="box", kind=EndpointKind.OLLAMA, url=ollama.url, local=True))
    yield bench
    await bench.runner.stop()
    await bench.parts.endpoints.close()
    bench.journal.close()


def chat(bench: Bench, seconds: float = 900.0) -> None:
    spec = TaskSpec(prompt="say something", executor="chat", budget=Budget(seconds=seconds))
    routing = Routing(tier=TIER, executor="chat", endpoint="box", model="qwen3:8b")
    bench.runner.assigned(Assign(attempt=attempt(), spec=Raw(codec.encode_spec(spec)), routing=routing, lease_s=30))


def answering(bench: Bench) -> Answering | None:
    return bench.runner.inventory()[0].answering


async def until_it_writes(bench: Bench) -> Answering:
    await bench.sent.until(lambda: "first some" in bench.sent.output)
    found = answering(bench)
    assert found is not None
    return found


async def until_hung_up(ollama: OllamaServer) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await ollama.until(lambda: ollama.hung_up > 0)


async def test_heartbeats_tell_how_far_an_answer_has_come(bench: Bench) -> None:
    chat(bench)

    found = await until_it_writes(bench)

    assert (found.phase, found.endpoint, found.model) == (AnswerPhase.WRITING, "box", "qwen3:8b")
    assert found.tokens == 3
    assert found.seconds >= found.silent_s >= 0


async def test_nothing_is_told_when_no_model_is_at_work(bench: Bench, ollama: OllamaServer) -> None:
    ollama.script = [Reply("done")]
    chat(bench)
    await bench.sent.until(lambda: bench.sent.of(Report))

    assert answering(bench) is None


async def test_a_cancelled_attempt_stops_its_model_at_the_server(bench: Bench, ollama: OllamaServer) -> None:
    chat(bench)
    await until_it_writes(bench)

    bench.runner.cancelled(Cancel(attempt=attempt(), reason="not needed any more"))

    await until_hung_up(ollama)
    await bench.sent.until(lambda: bench.sent.of(Report))
    assert bench.sent.of(Report)[0].state is AttemptState.CANCELLED


async def test_an_attempt_whose_time_is_up_stops_its_model_at_the_server(bench: Bench, ollama: OllamaServer) -> None:
    chat(bench, seconds=0.5)

    await until_hung_up(ollama)
    await bench.sent.until(lambda: bench.sent.of(Report))
    assert bench.sent.of(Report)[0].failure is FailureClass.BUDGET


async def test_an_attempt_that_its_hub_may_have_given_away_stops_its_model_at_the_server(
    bench: Bench, ollama: OllamaServer
) -> None:
    chat(bench)
    await until_it_writes(bench)

    bench.runner.fence()

    await until_hung_up(ollama)
    await bench.sent.until(lambda: bench.sent.of(Report))
    assert bench.sent.of(Report)[0].state is AttemptState.LOST


async def test_a_sidecar_that_stops_stops_its_models(bench: Bench, ollama: OllamaServer) -> None:
    chat(bench)
    await until_it_writes(bench)

    await bench.runner.stop()

    await until_hung_up(ollama)

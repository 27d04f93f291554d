"""Traces of tasks, told by a real hub and a real sidecar to a collector that speaks the real protocol."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentcom.cli import run
from protocol.ids import decode
from sidecar.app import start
from sidecar.llm.config import EndpointSettings
from sidecar.settings import Settings
from tests.support.collector import Collector, facts
from tests.support.foreign_agent import ForeignAgent
from tests.support.ollama_server import OllamaServer, Reply
from tests.support.running_hub import RunningHub, running_hub

TRACE, ABOVE = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GIVEN = {"traceparent": f"00-{TRACE}-{ABOVE}-01"}
HUB, SIDECAR = "agentcom-hub", "agentcom-sidecar"
WRITE = {
    "prompt": "Say hello.",
    "executor": "chat",
    "save_as": "hello.txt",
    "verification": [{"type": "file_exists", "path": "hello.txt"}],
    "clean_room": "never",
}


async def submit(hub: RunningHub, spec: dict[str, Any], **headers: str) -> str:
    made = await hub.ask("POST", "/api/v1/tasks", json=spec, headers=headers)
    assert made.status == 201, await made.text()
    return str((await made.json())["id"])


async def take(agent: ForeignAgent, state: str = "passed") -> dict[str, Any]:
    """Do the next task; how it was assigned."""
    assign = await agent.until("assign")
    await agent.tell("accept", assign["attempt"])
    await agent.until_acknowledged(await agent.report(assign["attempt"], state=state))
    return assign


async def ended(hub: RunningHub, task: str) -> str:
    async with hub.stream("/api/v1/events?after=0") as reader:
        while True:
            event = (await reader.next())["data"]
            if event.get("task") == task and event["kind"] in {"task_completed", "task_failed", "task_dead"}:
                return str(event["kind"])


async def test_a_task_is_one_tree_from_its_submission_to_its_report(tmp_path: Path) -> None:
    model = OllamaServer(script=[Reply("hello there")])
    await model.start()
    async with Collector() as collector:
        async with running_hub(tmp_path / "hub", traces=collector.url) as hub:
            endpoint = EndpointSettings(id="box", kind="ollama", url=model.url)  # type: ignore[arg-type]  # as a file says it
            settings = Settings(
                hub=hub.url,
                token=hub.tokens["agent"],
                state_dir=str(tmp_path / "one"),
                name="One",
                endpoints=(endpoint,),
                agents=(),
                traces=collector.url,
            )
            sidecar = await start(settings)
            task = await submit(hub, WRITE, **GIVEN)
            state = await ended(hub, task)
            await sidecar.stop()
        await model.stop()
    hub_spans = {span.name: span for span in collector.spans[HUB]}
    work = {span.name: span for span in collector.spans[SIDECAR]}
    everything = [*collector.spans[HUB], *collector.spans[SIDECAR]]
    ids = {span.span_id for span in everything}

    assert state == "task_completed"
    assert collector.problems == []
    assert set(hub_spans) == {"submit", "task", "queue", "place", "assign", "attempt"}
    assert set(work) == {"execute", "chat qwen3:8b", "verify", "report"}
    assert len(ids) == len(everything) == 10
    assert {span.trace_id.hex() for span in everything} == {TRACE}
    assert {span.parent_span_id for span in everything} - ids == {bytes.fromhex(ABOVE)}
    assert {work[name].parent_span_id for name in ("execute", "verify", "report")} == {hub_spans["attempt"].span_id}
    assert work["chat qwen3:8b"].parent_span_id == work["execute"].span_id
    told = facts(work["chat qwen3:8b"])
    assert (told["gen_ai.operation.name"], told["gen_ai.provider.name"]) == ("chat", "ollama")
    assert (told["gen_ai.request.model"], told["gen_ai.response.model"]) == ("qwen3:8b", "qwen3:8b")
    assert told["gen_ai.usage.output_tokens"] > 0
    assert told["server.port"] == model.port
    assert told["gen_ai.response.finish_reasons"] == ["stop"]
    assert facts(work["verify"])["agentcom.verified"] is True
    assert facts(hub_spans["attempt"])["agentcom.verified"] is True
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in everything)
    assert "Say hello" not in str(everything)
    assert "hello there" not in str(everything)


async def test_a_trace_goes_with_the_assignment_and_what_is_not_sampled_is_not_told(tmp_path: Path) -> None:
    async with Collector() as collector, running_hub(tmp_path / "hub", traces=collector.url) as hub:
        agent = await ForeignAgent.join(hub.url, hub.tokens["agent"])
        quiet = await submit(hub, {"command": "true"}, traceparent=f"00-{TRACE}-{ABOVE}-00")
        first = await agent.until("assign")
        await agent.report(first["attempt"])
        await ended(hub, quiet)
        own = await submit(hub, {"command": "true", "max_retries": 0}, traceparent="not one")
        second = await agent.until("assign")
        await agent.report(second["attempt"], state="failed")
        await ended(hub, own)
        await agent.leave()
    trace = f"{decode(own):032x}"

    assert first["trace"].startswith(f"00-{TRACE}-")
    assert first["trace"].endswith("-00")
    assert "traceparent" not in first["spec"]
    assert second["trace"].split("-")[1] == trace
    assert {span.trace_id.hex() for span in collector.spans[HUB]} == {trace}


async def test_a_hub_that_tells_nobody_passes_on_what_came_and_nothing_else(tmp_path: Path) -> None:
    async with running_hub(tmp_path / "hub") as hub:
        agent = await ForeignAgent.join(hub.url, hub.tokens["agent"])
        await submit(hub, {"command": "true", **GIVEN})
        given = await take(agent)
        await submit(hub, {"command": "true"})
        plain = await take(agent)
        refused = await hub.ask("POST", "/api/v1/tasks", json={"command": "true", "traceparent": "00-0-0-0"})
        await agent.leave()

    assert given["trace"] == GIVEN["traceparent"]
    assert "trace" not in plain
    assert refused.status == 422
    assert (await refused.json())["errors"][0]["path"] == "traceparent"


async def test_a_collector_that_is_away_costs_no_task(tmp_path: Path) -> None:
    async with running_hub(tmp_path / "hub", traces="http://127.0.0.1:9") as hub:
        agent = await ForeignAgent.join(hub.url, hub.tokens["agent"])
        task = await submit(hub, {"command": "true"})
        await agent.work()
        state = await ended(hub, task)
        await agent.leave()

    assert state == "task_completed"


def test_off_means_that_the_library_is_not_even_loaded() -> None:
    code = (
        "import sys, hub.app, sidecar.app, agentcom.cli.hub; "
        "sys.exit(any(name.split('.')[0] == 'opentelemetry' for name in sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("program", ["hub", "sidecar"])
def test_a_place_that_is_none_is_refused_with_the_way_out(
    program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCOM_TOKEN", "acm_x")
    place = {"hub": "--data-dir", "sidecar": "--state-dir"}[program]
    status = run([program, place, str(tmp_path), "--traces", "localhost", "--check-config"])

    assert status == 2
    assert "like http://127.0.0.1:4318" in capsys.readouterr().err

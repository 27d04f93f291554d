"""Figures over HTTP: history for charts, live numbers, and counts that are those of the event log."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from hub.core.tally import Tally
from hub.store.keeping_changes import KeepSample
from protocol.metrics import MetricsHistory, MetricsSnapshot
from tests.support.running_hub import RunningHub, running_hub

QUARTER_S = int(time.time()) // 900 * 900 - 7_200
"""When a quarter of an hour began, not long ago."""


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path) as running:
        yield running


async def keep(hub: RunningHub, step_s: int, at_s: int, **sample: float) -> None:
    body = msgspec.msgpack.encode(sample)
    await hub.running.store.commit(KeepSample(step_s=step_s, at_s=at_s, body=body, before_s=0))


async def ask(hub: RunningHub, query: str) -> MetricsHistory:
    answer = await hub.ask("GET", f"/api/v1/metrics?{query}", role="viewer")
    assert answer.status == 200, await answer.text()
    return msgspec.json.decode(await answer.text(), type=MetricsHistory)


def at(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


async def test_figures_come_as_series_with_null_where_nobody_knows(hub: RunningHub) -> None:
    await keep(hub, 60, QUARTER_S + 60, tasks_queued=4, tasks_completed=1, **{"host_cpu|a": 0.5})
    await keep(hub, 60, QUARTER_S + 180, tasks_queued=2, tasks_completed=5)

    told = await ask(hub, f"since={at(QUARTER_S)}&until={at(QUARTER_S + 600)}&names=tasks_queued,host_cpu")
    assert told.step_s == 60
    shown = {(series.name, series.unit, series.labels.get("host")): series.points for series in told.series}
    assert shown == {
        ("tasks_queued", "tasks", None): ((QUARTER_S + 60, 4), (QUARTER_S + 120, None), (QUARTER_S + 180, 2)),
        ("host_cpu", "ratio", "a"): ((QUARTER_S + 60, 0.5), (QUARTER_S + 120, None), (QUARTER_S + 180, None)),
    }

    longer = await ask(hub, f"since={at(QUARTER_S)}&step_s=290&names=tasks_completed,tasks_queued")
    assert longer.step_s == 300
    assert {series.name: series.points[0][1] for series in longer.series} == {"tasks_completed": 6, "tasks_queued": 3}


async def test_of_what_is_longer_ago_there_are_quarters_of_an_hour(hub: RunningHub) -> None:
    old_s = QUARTER_S - 7 * 86_400
    await keep(hub, 900, old_s, tokens=70)

    told = await ask(hub, f"since={at(old_s - 900)}")
    assert (told.step_s, [(series.name, series.points) for series in told.series]) == (
        900,
        [("tokens", ((old_s, 70),))],
    )


@pytest.mark.parametrize(
    "query, path",
    [
        ("names=tasks_queued,tusks", "names"),
        ("since=yesterday", "query since"),
        ("since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        ("since=2020-01-01T00:00:00Z&step_s=900", "step_s"),
        ("step_s=-1", "query step_s"),
        ("hours=3", "query hours"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused_by_name(hub: RunningHub, query: str, path: str) -> None:
    answer = await hub.ask("GET", f"/api/v1/metrics?{query}")

    assert answer.status == 422
    assert [problem["path"] for problem in (await answer.json())["errors"]] == [path]


async def test_live_numbers_tell_tasks_success_and_who_works(hub: RunningHub) -> None:
    async with hub.stream("/api/v1/metrics/stream") as numbers:
        await hub.ask("POST", "/api/v1/tasks", json={"tasks": [{"command": "true"}] * 3})
        while (told := msgspec.convert((await numbers.next())["data"], MetricsSnapshot)).tasks < 3:
            pass

    assert (told.queue["queued"], told.completed, told.active_workers) == (3, 0, 0)
    assert (told.success_rate, told.mean_latency_s) == (None, None)


async def test_the_counts_of_a_hub_that_was_restarted_are_those_of_its_log(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as first:
        for number in range(5):
            await first.ask("POST", "/api/v1/tasks", json={"title": f"t{number}", "command": "true"})
    async with running_hub(tmp_path) as second:
        [task, *_] = (await (await second.ask("GET", "/api/v1/tasks")).json())["tasks"]
        await second.ask("POST", f"/api/v1/tasks/{task['id']}/cancel", json={})
        async with second.stream("/api/v1/metrics/stream") as numbers:
            while (told := (await numbers.next())["data"])["tasks"] < 5:
                pass
        log = Tally()
        log.add(await second.running.store.events(0, 10_000))

    assert told["tasks"] == log.submitted == 5

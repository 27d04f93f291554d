"""What a terminal shows of the live page."""

import json
from datetime import UTC, datetime
from typing import Any

from agentcom.live import Tables, apply, figures, screen
from protocol.metrics import MetricSeries, MetricsHistory

NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
AT = "2026-01-01T12:00:00Z"


def task(name: str, state: str, **more: Any) -> dict[str, Any]:
    usual = {"started_at": AT, "ended_at": None, "verified": None, "title": name, "agent": "One", "reason": ""}
    return {"id": name, "state": state, **usual, **more}


def told(**rows: Any) -> Tables:
    hub = {"version": "1", "state": "ok", "queue": {"queued": 3}, "components": {}}
    tables: Tables = {}
    apply(tables, json.dumps({"whole": True, "rows": {"hub": {"hub": hub}, **rows}, "events": []}).encode())
    return tables


def drawn(tables: Tables, age_s: float | None = None, width: int = 100, height: int = 40) -> str:
    return "\n".join(screen(tables, now=NOW, age_s=age_s, width=width, height=height))


AGENT = {"state": "working", "busy": 1, "slots": 2, "host": "box"}
HOST = {"cpu": {"percent": 7, "cores": 2}, "ram": {"used_bytes": 1, "total_bytes": 2}}
GPU = {
    "name": "H200", "vram_total_bytes": 2**37, "vram_used_bytes": 2**36, "utilization": 88,
    "temperature_c": 71, "power_w": 310, "host": "box",
}  # fmt: skip


def test_machines_gpus_and_tasks_are_on_one_screen() -> None:
    lists = {"busy": {"ids": ["t1"]}, "newest": {"ids": ["t2", "t1"]}}
    tasks = {"t1": task("t1", "running"), "t2": task("t2", "completed", ended_at=AT, verified=True)}
    text = drawn(told(agents={"One": AGENT}, hosts={"box": HOST}, gpus={"box 0": GPU}, lists=lists, tasks=tasks))

    assert "hub \u2713 ok   \u25cf live" in text
    assert "\u25cb queued 3" in text
    assert "One                          1/2  cpu   7 %  ram  50 %  box" in text
    assert (
        "\u2588\u2588\u2588\u2588\u2588\u2591\u2591\u2591\u2591\u2591 64.0/128 GiB   88 %  71 \u00b0C  310 W  box"
        in text
    )
    assert "\u25b6 running    t1" in text
    assert "30.0 s" in text
    assert text.index(" t1 ") < text.index(" t2 ")
    assert "verified" in text


def test_while_the_line_is_broken_no_machine_is_said_to_be_well() -> None:
    text = drawn(told(agents={"One": AGENT}), age_s=12.4)

    assert "? 12 s old, reconnecting" in text
    assert "? offline" in text
    assert "live" not in text


def test_only_what_changed_is_told_and_what_is_gone_goes() -> None:
    tables = told(agents={"One": AGENT, "Two": AGENT})
    apply(tables, b'{"whole": false, "rows": {"agents": {"One": {"busy": 2}, "Two": null}}, "events": []}')

    assert tables["agents"] == {"One": {**AGENT, "busy": 2}}


def test_words_of_others_move_no_cursor_and_nothing_is_wider_or_longer_than_the_terminal() -> None:
    tasks = {f"t{n}": task("\x1b[2J" + "x" * 300, "dead", reason="r\r\n" * 50) for n in range(50)}
    agents = {f"a\x07{n}": AGENT for n in range(50)}
    lines = screen(
        told(agents=agents, tasks=tasks, lists={"newest": {"ids": list(tasks)}}),
        now=NOW,
        age_s=None,
        width=60,
        height=24,
    )

    assert len(lines) <= 24
    assert all(len(line) <= 60 and line.isprintable() for line in lines)
    assert any(line.startswith("and ") for line in lines)


def test_before_the_hub_has_spoken_it_says_that_it_waits() -> None:
    assert drawn({}) == "waiting for the hub ..."


def alert(severity: str, state: str = "firing", **more: Any) -> dict[str, Any]:
    usual = {"rule": "host_hot", "subject": "box", "summary": f"{severity} words", "since": AT, "id": severity}
    return {"severity": severity, "state": state, **usual, **more}


def test_what_needs_somebody_is_told_as_on_the_page_the_gravest_first() -> None:
    alerts = {name: alert(name) for name in ("info", "critical", "warning")}
    alerts["info"]["summary"] = "about the box"
    alerts["quiet"] = alert("warning", "silenced", summary="nobody wants to hear this")
    tasks = {"w": task("w", "waiting", reason="looks odd"), "d": task("d", "dead", reason="no retry left")}
    lists = {"waiting": {"ids": ["w"]}, "troubled": {"ids": ["d"]}}
    server = {"id": "ollama", "host": "box", "state": "down", "detail": "refused", "models": []}
    text = drawn(told(alerts=alerts, tasks=tasks, lists=lists, endpoints={"box ollama": server}))

    told_of = text[text.index("NEEDS YOU") : text.index("MACHINES")].splitlines()[1:]
    assert [line.strip() for line in told_of if line] == [
        "\u2715 critical   critical words (box) 30.0 s",
        "\u25b2 warning    warning words (box) 30.0 s",
        "\u25cb info       about the box 30.0 s",
        "\u25c6 waiting    w: looks odd",
        "\u2715 down       ollama on box: refused",
        "\u2715 dead       d: no retry left",
    ]
    assert "nobody wants" not in text


def test_where_nothing_needs_anybody_nothing_is_said() -> None:
    assert "NEEDS YOU" not in drawn(told(alerts={"a": alert("critical", "acknowledged")}))


def test_the_figures_of_the_last_hour_are_sums_but_for_what_stands() -> None:
    def series(name: str, *points: tuple[int, float | None], **labels: str) -> MetricSeries:
        return MetricSeries(name=name, unit="", labels=labels, points=points)

    history = MetricsHistory(
        step_s=60,
        series=(
            series("tasks_completed", (60, 3.0), (120, 4.0)),
            series("success_rate", (60, 0.5), (120, 0.75), (180, None)),
            series("oldest_wait_s", (60, 90.0), (120, 12.0)),
            series("tokens", (60, 1_000.0), model="a"),
            series("tokens", (60, 500.0), model="b"),
            series("cost_usd"),
        ),
    )
    found = figures(history)
    lines = screen(told(), now=NOW, age_s=None, width=100, height=40, overview=found)

    assert found == {"tasks_completed": 7.0, "success_rate": 0.75, "oldest_wait_s": 12.0, "tokens": 1_500.0}
    assert "last hour: 7 completed   success 75%   1,500 tokens   oldest wait 12.0 s" in lines


def test_budgets_and_models_in_memory_are_told() -> None:
    budget = {
        "limit": {"usd": 20.0, "tokens": None, "seconds": None},
        "spent": {"usd": 1.5, "tokens": 7, "seconds": 3.0},
    }
    models = [{"name": "qwen3:8b", "residency": "warm"}, {"name": "b", "residency": "cold"}]
    server = {"id": "ollama", "host": "box", "state": "up", "detail": "", "models": models}
    idle = {**server, "host": None, "models": models[1:]}
    text = drawn(told(budgets={"hub": budget}, endpoints={"box ollama": server, " far": idle}))

    assert "budget hub: $1.50 of $20.00 today" in text
    assert "\u2713 up         ollama                       qwen3:8b  box" in text
    assert "1 models, none in memory" in text

"""Dashboards for Grafana: the work, the machines, the hub. Each asks any Prometheus, of one mesh (a job) at a time."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from tests.ops.rules import most

SCHEMA: Final = 39
"""That of Grafana 11; newer ones read it and bring it up to theirs."""
WIDTH: Final = 24
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_JOB: Final = 'job="$job"'
_HOST: Final = 'host=~"$host"'


class Panel(NamedTuple):
    """One picture.

    Attributes:
        asked: expressions, and what their lines are called.
        unit: as Grafana names units.
        kind: ``stat``, ``timeseries`` or ``table``.
        wide: of 24 columns.
        top: upper end of the axis, if it has one.
    """

    title: str
    asked: Sequence[tuple[str, str]]
    unit: str = "short"
    kind: str = "timeseries"
    wide: int = 8
    top: float | None = None
    text: str = ""


Rows = Sequence[tuple[str, Sequence[Panel]]]


def _stat(title: str, expr: str, unit: str = "short", text: str = "") -> Panel:
    return Panel(title, [(expr, "")], unit, "stat", 4, None, text)


def _now(metric: str, *labels: str, where: str = "") -> str:
    """The most that the hubs of the chosen job tell."""
    return most(f"{metric}{{{_JOB}{',' if where else ''}{where}}}", *labels)


def _grows(metric: str, *labels: str) -> str:
    return most(f"rate({metric}{{{_JOB}}}[$__rate_interval])", *labels)


def _record(name: str) -> str:
    return f"{name}{{{_JOB}}}"


_ALERTS: Final = f"sum({_now('agentcom_alerts', 'rule', 'severity', 'state')}) or vector(0)"
WORK: Final[Rows] = (
    (
        "Now",
        (
            _stat("Queued", _now("agentcom_tasks", where='state="queued"'), text="Counted once a minute."),
            _stat("Running", _now("agentcom_tasks", where='state="running"')),
            _stat("Waiting for a person", _now("agentcom_tasks", where='state="waiting"')),
            _stat("Success", _record("job:agentcom_tasks_success:ratio15m"), "percentunit", "Of the last 15 minutes."),
            _stat("Slots in use", _record("job:agentcom_slots_busy:ratio"), "percentunit"),
            _stat("Open alerts", _ALERTS, text="As the hub itself finds."),
        ),
    ),
    (
        "Throughput",
        (
            Panel(
                "Tasks a second",
                [
                    (_record("job:agentcom_tasks_submitted:rate5m"), "submitted"),
                    (_record("job_state:agentcom_tasks_ended:rate5m"), "{{state}}"),
                ],
                "ops",
            ),
            Panel(
                "Queue by priority and tier",
                [(_now("agentcom_queue_tasks", "priority", "tier"), "{{priority}} {{tier}}")],
                text="Tasks that could run; of a class at most what the hub keeps in memory.",
            ),
            Panel(
                "Oldest wait",
                [(_now("agentcom_queue_oldest_seconds", "priority", "tier"), "{{priority}} {{tier}}")],
                "s",
            ),
        ),
    ),
    (
        "Time",
        (
            Panel(
                "Half of them within", [(_record("job_phase:agentcom_task_seconds:p50_5m"), "{{phase}}")], "s", wide=12
            ),
            Panel("95 % within", [(_record("job_phase:agentcom_task_seconds:p95_5m"), "{{phase}}")], "s", wide=12),
        ),
    ),
    (
        "What goes wrong",
        (
            Panel(
                "Failed and dead",
                [(_grows("agentcom_task_failures_total", "state", "failure"), "{{state}} {{failure}}")],
            ),
            Panel("Made again", [(_grows("agentcom_retries_total", "failure"), "{{failure}}")]),
            Panel(
                "What checks found",
                [(_record("job_verdict:agentcom_verifications:rate15m"), "{{verdict}}")],
                "ops",
            ),
        ),
    ),
    (
        "Models and money",
        (
            Panel(
                "Tokens a second",
                [(_record("job_model_direction:agentcom_tokens:rate5m"), "{{model}} {{direction}}")],
            ),
            Panel("Money, an hour", [(_record("job_model:agentcom_cost_usd:increase1h"), "{{model}}")], "currencyUSD"),
            Panel(
                "Fallbacks a second",
                [(_grows("agentcom_fallbacks_total", "wanted", "used"), "{{wanted}} by {{used}}")],
                "ops",
            ),
            Panel(
                "Attempts by strategy", [(_grows("agentcom_attempts_routed_total", "strategy"), "{{strategy}}")], "ops"
            ),
            Panel(
                "Budgets",
                [(_now("agentcom_budget_spent_ratio", "budget"), "{{budget}}")],
                "percentunit",
                top=1,
            ),
        ),
    ),
)
MACHINES: Final[Rows] = (
    (
        "Agents",
        (
            Panel("Agents by state", [(_now("agentcom_agents", "state"), "{{state}}")]),
            Panel("Attempts in hand", [(_now("agentcom_agent_slots_busy", "agent"), "{{agent}}")]),
            Panel("Gone without a word", [(_now("agentcom_agent_lost_seconds", "agent"), "{{agent}}")], "s"),
        ),
    ),
    (
        "Machines",
        (
            Panel(
                "Processors", [(_now("agentcom_host_cpu_ratio", "host", where=_HOST), "{{host}}")], "percentunit", top=1
            ),
            Panel(
                "Memory", [(_now("agentcom_host_memory_ratio", "host", where=_HOST), "{{host}}")], "percentunit", top=1
            ),
            Panel("Disk", [(_now("agentcom_host_disk_ratio", "host", where=_HOST), "{{host}}")], "percentunit", top=1),
            Panel(
                "Free for workspaces",
                [(_now("agentcom_host_disk_free_bytes", "host", where=_HOST), "{{host}}")],
                "bytes",
            ),
            Panel("Clocks", [(_now("agentcom_host_clock_skew_seconds", "host", where=_HOST), "{{host}}")], "s"),
            Panel(
                "LLM endpoints",
                [(_now("agentcom_endpoint_up", "host", "endpoint"), "{{endpoint}} {{host}}")],
                top=1,
                text="1: it answers.",
            ),
        ),
    ),
    (
        "GPUs",
        (
            Panel(
                "Busy",
                [(_now("agentcom_gpu_utilization_ratio", "host", "gpu", where=_HOST), "{{host}} {{gpu}}")],
                "percentunit",
                top=1,
            ),
            Panel(
                "Memory",
                [(_now("agentcom_gpu_memory_ratio", "host", "gpu", where=_HOST), "{{host}} {{gpu}}")],
                "percentunit",
                top=1,
            ),
            Panel(
                "Temperature",
                [(_now("agentcom_gpu_temperature_celsius", "host", "gpu", where=_HOST), "{{host}} {{gpu}}")],
                "celsius",
            ),
        ),
    ),
)


def _here(metric: str) -> list[tuple[str, str]]:
    return [(_now(metric, "instance"), "{{instance}}")]


def _grows_here(metric: str, label: str = "instance") -> list[tuple[str, str]]:
    return [(_grows(metric, label), f"{{{{{label}}}}}")]


HUB: Final[Rows] = (
    (
        "The hub",
        (
            Panel("Longest standstill in a second", _here("agentcom_loop_lag_seconds"), "s"),
            Panel(
                "Memory",
                [*_here("agentcom_memory_bytes"), (_now("agentcom_memory_limit_bytes", "instance"), "limit")],
                "bytes",
            ),
            Panel(
                "Disk",
                [
                    (_now("agentcom_disk_free_bytes", "instance"), "{{instance}} free"),
                    (_now("agentcom_disk_floor_bytes", "instance"), "least for new tasks"),
                ],
                "bytes",
            ),
            Panel("Links of sidecars", _here("agentcom_sidecars_connected")),
            Panel("Streams that are followed", _here("agentcom_streams_open")),
            Panel("Events in the log", _grows_here("agentcom_events_total", "kind"), "ops"),
        ),
    ),
    (
        "The store",
        (
            Panel("Commits a second", _grows_here("agentcom_store_commits_total"), "ops"),
            Panel("Changes a second", _grows_here("agentcom_store_changes_total"), "ops"),
            Panel(
                "99 % of commits within",
                [(_record("job_instance:agentcom_store_commit_seconds:p99_5m"), "{{instance}}")],
                "s",
            ),
            Panel("Size", _here("agentcom_store_bytes"), "bytes"),
            Panel("Write-ahead log", _here("agentcom_store_log_bytes"), "bytes"),
            Panel("Changes that wait", _here("agentcom_store_waiting")),
        ),
    ),
    (
        "Limits and alerts",
        (
            Panel("Refused because of a rate", _grows_here("agentcom_throttled_total", "action"), "ops"),
            Panel("Refused because of a limit", [(_now("agentcom_refused", "code"), "{{code}}")]),
            Panel("Broken protocol", _grows_here("agentcom_violations_total", "code"), "ops"),
            Panel(
                "Open alerts",
                [(_now("agentcom_alerts", "rule", "severity", "state"), "")],
                kind="table",
                wide=12,
                text="As the hub itself finds; what to do: docs/operate/runbooks.md.",
            ),
            Panel("What Prometheus finds", [('ALERTS{job="$job",alertname=~"AgentCom.*"}', "")], kind="table", wide=12),
        ),
    ),
)
BOARDS: Final = {
    "work": ("AgentCom: work", WORK),
    "machines": ("AgentCom: machines", MACHINES),
    "hub": ("AgentCom: hub", HUB),
}
"""By the name of the file."""


def expressions() -> Iterator[str]:
    """Everything that is asked, as Prometheus is asked: of all jobs, over five minutes."""
    for _, rows in BOARDS.values():
        for _, panels in rows:
            for panel in panels:
                for expr, _ in panel.asked:
                    text = expr.replace("$__rate_interval", "5m").replace('job="$job"', 'job=~".+"')
                    yield text.replace('host=~"$host"', 'host=~".*"')


def board(name: str) -> dict[str, Any]:
    """A dashboard as Grafana's files have them."""
    title, rows = BOARDS[name]
    return {
        "uid": f"agentcom-{name}",
        "title": title,
        "description": "Written by python -m tests.ops.generate",
        "tags": ["agentcom"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [
            {"type": "dashboards", "title": "AgentCom", "tags": ["agentcom"], "asDropdown": False, "keepTime": True}
        ],
        "templating": {"list": [*_variables(with_hosts=name == "machines")]},
        "panels": [*_panels(rows)],
    }


def _variables(*, with_hosts: bool) -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}}
    yield _asked("job", "Mesh", "label_values(agentcom_newest_event, job)", is_many=False)
    if with_hosts:
        yield _asked("host", "Machine", f"label_values(agentcom_host_cpu_ratio{{{_JOB}}}, host)", is_many=True)


def _asked(name: str, label: str, query: str, *, is_many: bool) -> dict[str, Any]:
    everything = {"includeAll": True, "allValue": ".*", "multi": True} if is_many else {"multi": False}
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "current": {"text": ["All"], "value": ["$__all"]} if is_many else {},
        **everything,
    }


def _panels(rows: Rows) -> Iterator[dict[str, Any]]:
    number, y = 0, 0
    for title, panels in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
        }
        x, y, high = 0, y + 1, 0
        for panel in panels:
            number += 1
            if x + panel.wide > WIDTH:
                x, y = 0, y + high
            high = 4 if panel.kind == "stat" else 8
            yield _panel(number, panel, {"x": x, "y": y, "w": panel.wide, "h": high})
            x += panel.wide
        y += high


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    is_table = panel.kind == "table"
    asked = {"instant": True, "range": False, "format": "table"} if is_table else {"instant": False, "range": True}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": [
            {"refId": chr(65 + place), "datasource": SOURCE, "editorMode": "code", "expr": expr, "legendFormat": legend}
            | asked
            for place, (expr, legend) in enumerate(panel.asked)
        ],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
        **({"transformations": [_WITHOUT_TIME]} if is_table else {}),
    }


def _field(panel: Panel) -> dict[str, Any]:
    return {
        "unit": panel.unit,
        "min": 0,
        **({} if panel.top is None else {"max": panel.top}),
        **({"custom": {"fillOpacity": 8, "lineWidth": 1, "showPoints": "never"}} if panel.kind == "timeseries" else {}),
    }


_WITHOUT_TIME: Final = {"id": "organize", "options": {"excludeByName": {"Time": True, "__name__": True}}}
_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "none",
        "graphMode": "area",
        "textMode": "auto",
    },
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
}

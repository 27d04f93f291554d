"""What the live page shows, for programs: the same stream, folded here.

:func:`agentcom.aio.Client.live` feeds it; :func:`screen` draws it for a terminal. Pure, but for the time it is given.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from protocol.metrics import MetricsHistory

Row = Mapping[str, Any]
Tables = dict[str, dict[str, dict[str, Any]]]
LIVE: Final = "/dashboard/live"
_GLYPHS: Final = {
    "queued": "\u25cb", "assigned": "\u25d4", "running": "\u25b6", "working": "\u25b6", "waiting": "\u25c6",
    "blocked": "\u25c7", "completed": "\u2713", "failed": "\u2715", "dead": "\u2715", "cancelled": "\u2298",
    "idle": "\u25cb", "draining": "\u21bb", "offline": "?", "ok": "\u2713", "up": "\u2713", "degraded": "\u25b2",
    "down": "\u2715",
}  # fmt: skip
FIGURES: Final = ("tasks_completed", "tasks_failed", "success_rate", "oldest_wait_s", "cost_usd", "tokens")
"""What the page's overview tells of the last hour."""
FIGURES_STEP_S: Final = 60
_NEWEST: Final = ("success_rate", "oldest_wait_s")
"""Of these the newest value counts, of the others all that happened."""
_SEVERITIES: Final = {"critical": "\u2715", "warning": "\u25b2", "info": "\u25cb"}
_STATES: Final = ("blocked", "queued", "assigned", "running", "waiting", "completed", "failed", "dead")
_BAR: Final = 10
_TROUBLED: Final = 5
_CENT: Final = 0.01


def apply(tables: Tables, data: bytes) -> None:
    """Bring ``tables`` up to date with what the hub has told."""
    told = msgspec.json.decode(data)
    if told["whole"]:
        tables.clear()
    for table, changed in told["rows"].items():
        rows = tables.setdefault(table, {})
        for key, fields in changed.items():
            if fields is None:
                rows.pop(key, None)
            else:
                rows[key] = {**rows.get(key, {}), **fields}


def figures(history: "MetricsHistory") -> dict[str, float]:
    """The figures of the overview by name, of the time that was asked for; what nobody knows is left out."""
    sums: defaultdict[str, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
    for series in history.series:  # a figure may come in parts, by model
        for at, value in series.points:
            if value is not None:
                sums[series.name][at] += value
    return {name: known[max(known)] if name in _NEWEST else sum(known.values()) for name, known in sums.items()}


def screen(
    tables: Tables,
    *,
    now: datetime,
    age_s: float | None,
    width: int,
    height: int,
    overview: Mapping[str, float] | None = None,
) -> list[str]:
    """Lines of a terminal of this size.

    Args:
        age_s: seconds since the hub was heard when the line is broken; ``None``: it is live.
        overview: :func:`figures` of the last hour.
    """
    hub = tables.get("hub", {}).get("hub")
    if hub is None:
        return ["waiting for the hub ..."]
    fresh = "\u25cf live" if age_s is None else f"? {age_s:.0f} s old, reconnecting"
    lines = [f"AgentCom {hub['version']}   hub {_state(hub['state'])}   {fresh}"]
    lines.append("   ".join(f"{_state(name)} {hub['queue'].get(name, 0)}" for name in _STATES))
    parts = sorted(hub["components"].items())
    lines += [f"! {name}: {_plain(part['detail'])}" for name, part in parts if part["state"] != "ok"]
    lines += [_last_hour(overview)] if overview else []
    lines += _budgets(tables)
    if needs := list(_needs(tables, now)):
        lines += ["", "NEEDS YOU", *_bounded(needs, max(2, height // 4))]
    machines = list(_machines(tables, is_live=age_s is None))
    room = max(3, (height - len(lines) - 4) // 2)
    lines += ["", "MACHINES", *_bounded(machines, room)]
    tasks = list(_tasks(tables, now))
    lines += ["", "TASKS", *_bounded(tasks, max(1, height - len(lines) - 2))]
    return [line[:width] for line in lines[:height]]


def _last_hour(overview: Mapping[str, float]) -> str:
    words = {
        "tasks_completed": "{:.0f} completed",
        "tasks_failed": "{:.0f} failed",
        "success_rate": "success {:.0%}",
        "tokens": "{:,.0f} tokens",
    }
    told = [form.format(overview[name]) for name, form in words.items() if name in overview]
    if "cost_usd" in overview:
        told.append(_money(overview["cost_usd"]))
    if "oldest_wait_s" in overview:
        told.append(f"oldest wait {_length(overview['oldest_wait_s'])}")
    return "last hour: " + "   ".join(told)


def _budgets(tables: Tables) -> list[str]:
    units = {"usd": _money, "tokens": "{:,.0f} tokens".format, "seconds": "{:,.0f} s".format}
    return [
        f"budget {_plain(key)}: {words(budget['spent'][unit])} of {words(budget['limit'][unit])} today"
        for key, budget in sorted(tables.get("budgets", {}).items())
        for unit, words in units.items()
        if budget["limit"][unit] is not None
    ]


def _needs(tables: Tables, now: datetime) -> Iterable[str]:
    """What the page's overview says that somebody has to look at, in its order."""
    alerts = [alert for alert in tables.get("alerts", {}).values() if alert["state"] == "firing"]
    for alert in sorted(alerts, key=lambda one: ([*_SEVERITIES].index(one["severity"]), one["since"])):
        words, subject = _plain(alert["summary"] or alert["rule"]), _plain(alert["subject"])
        whose = "" if subject in words else f" ({subject})"
        mark = f"{_SEVERITIES[alert['severity']]} {alert['severity']}"
        yield f"{mark:<12} {words}{whose} {_length(_seconds(alert['since'], None, now))}"
    for task in _listed(tables, "waiting"):
        yield f"{_state('waiting'):<12} {_plain(task['title'] or task['id'])}: {_plain(task['reason'])}"
    for endpoint in tables.get("endpoints", {}).values():
        if endpoint["state"] == "down":
            where = f" on {_plain(endpoint['host'])}" if endpoint["host"] else ""
            yield f"{_state('down'):<12} {_plain(endpoint['id'])}{where}: {_plain(endpoint['detail'])}"
    for task in list(_listed(tables, "troubled"))[:_TROUBLED]:
        yield f"{_state(task['state']):<12} {_plain(task['title'] or task['id'])}: {_plain(task['reason'])}"


def _listed(tables: Tables, name: str) -> Iterable[Row]:
    tasks = tables.get("tasks", {})
    ids = tables.get("lists", {}).get(name, {}).get("ids", ())
    return (tasks[key] for key in ids if key in tasks)


def _bounded(lines: list[str], room: int) -> list[str]:
    if not lines:
        return ["none yet"]
    return lines if len(lines) <= room else [*lines[: room - 1], f"and {len(lines) - room + 1} more"]


def _machines(tables: Tables, *, is_live: bool) -> Iterable[str]:
    hosts, gpus = tables.get("hosts", {}), tables.get("gpus", {})
    for name, agent in sorted(tables.get("agents", {}).items()):
        host = hosts.get(agent["host"], {})
        state = agent["state"] if is_live else "offline"
        cpu = f"cpu {host['cpu']['percent']:3d} %" if host.get("cpu") else ""
        ram = f"ram {_share(host['ram'])}" if host.get("ram") else ""
        slots = f"{agent['busy']}/{agent['slots']}"
        yield f"{_state(state):<12} {_plain(name):<28} {slots}  {cpu}  {ram}  {_plain(agent['host'])}"
    for gpu in gpus.values():
        total, used = gpu["vram_total_bytes"], gpu["vram_used_bytes"]
        if total and used is not None:
            load = "" if gpu["utilization"] is None else f"{gpu['utilization']:3d} %"
            heat = "" if gpu["temperature_c"] is None else f"{gpu['temperature_c']} \u00b0C"
            memory = f"{_bar(used / total)} {used / 2**30:.1f}/{total / 2**30:.0f} GiB"
            power = "" if gpu["power_w"] is None else f"{gpu['power_w']} W"
            yield f"{'gpu':<12} {_plain(gpu['name']):<28} {memory}  {load}  {heat}  {power}  {_plain(gpu['host'])}"
    for endpoint in tables.get("endpoints", {}).values():
        held = [_plain(model["name"]) for model in endpoint["models"] if model["residency"] in {"warm", "loading"}]
        state = endpoint["state"] if is_live else "offline"
        told = ", ".join(held) or f"{len(endpoint['models'])} models, none in memory"
        yield f"{_state(state):<12} {_plain(endpoint['id']):<28} {told}  {_plain(endpoint['host'] or '')}"


def _tasks(tables: Tables, now: datetime) -> Iterable[str]:
    tasks, lists, seen = tables.get("tasks", {}), tables.get("lists", {}), set[str]()
    for name in ("waiting", "busy", "newest"):
        for key in lists.get(name, {}).get("ids", ()):
            if key in seen or key not in tasks:
                continue
            seen.add(key)
            task = tasks[key]
            begun, ended = task["started_at"], task["ended_at"]
            took = _length(_seconds(begun, ended, now)) if begun else ""
            proof = {True: "verified", False: "not verified", None: ""}[task["verified"]]
            why = f"  {_plain(task['reason'])}" if task["reason"] else ""
            title, agent = _plain(task["title"] or key), _plain(task["agent"] or "")
            yield f"{_state(task['state']):<12} {title:<36.36} {took:>7}  {proof:<12} {agent}{why}"


def _money(usd: float) -> str:
    return f"${usd:.4f}" if 0 < usd < _CENT else f"${usd:,.2f}"


def _state(name: str) -> str:
    return f"{_GLYPHS.get(name, '.')} {name}"


def _share(space: Row) -> str:
    return f"{100 * space['used_bytes'] / max(1, space['total_bytes']):3.0f} %"


def _bar(share: float) -> str:
    full = round(min(1.0, share) * _BAR)
    return "\u2588" * full + "\u2591" * (_BAR - full)


def _seconds(begun: str, ended: str | None, now: datetime) -> float:
    until = datetime.fromisoformat(ended) if ended else now
    return max(0.0, (until - datetime.fromisoformat(begun)).total_seconds())


def _length(seconds: float) -> str:
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"  # noqa: PLR2004 - an hour


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)

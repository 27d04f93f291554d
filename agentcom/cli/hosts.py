"""``agentcom hosts``: list machines and how busy they are, look at one."""

from typing import TYPE_CHECKING, Final

import click

from agentcom.cli import output
from agentcom.cli.connection import HubCommand, NounGroup, connected

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agentcom.client import Client
    from protocol.host_views import HostHistory, HostView
    from protocol.machine import GpuReport, SpaceReport

_HEAD: Final = ("host", "cpu", "ram", "disk", "gpu", "vram", "others", "load", "temp", "agents", "models", "reported")
_GPU_HEAD: Final = ("gpu", "vram", "ours", "others", "load", "temp", "power", "driver", "uuid")
_PROCESS_HEAD: Final = ("gpu", "pid", "program", "vram", "whose")
_WHOSE: Final = {"work": "an attempt", "server": "an LLM server", "other": "somebody else"}
_BARS: Final = "▁▂▃▄▅▆▇█"
_LINES: Final = (
    ("cpu_percent", "cpu", 100.0),
    ("utilization", "load", 100.0),
    ("vram_used_bytes", "vram", 0.0),
    ("temperature_c", "temp", 100.0),
)
"""Figures that are drawn, how they are called, and what a full bar means; 0: the most that there was."""


@click.group(name="hosts", cls=NounGroup)
def command() -> None:
    """List machines and how busy they are. Without a verb: ls."""


@command.command(name="ls", cls=HubCommand)
@connected
def ls(hub: "Client", as_json: bool) -> None:  # noqa: FBT001 - click calls it
    """List machines: processors, memory, disk, GPUs, agents, models.

    A machine with several GPUs takes a line for each. "Others" is what programs hold that are not ours.
    """
    found = hub.hosts()
    if as_json:
        output.say_json(found)
        return
    empty = "no hosts yet; a sidecar brings its own: agentcom sidecar --hub URL --token-file FILE"
    output.table(_HEAD, [row for host in found.hosts for row in rows(host)], empty=empty)


@command.command(name="show", cls=HubCommand)
@click.argument("name")
@click.option("--hour", is_flag=True, help="Draw the last hour instead of the last minute.")
@connected
def show(hub: "Client", name: str, hour: bool, as_json: bool) -> None:  # noqa: FBT001 - click calls it
    """Show a machine: disks, GPUs, who holds memory, its last minute."""
    history = hub.host_history(name, "hour" if hour else "minute")
    found = next(host for host in hub.hosts().hosts if host.name == name)
    if as_json:
        output.say_json({"host": found, "history": history})
        return
    output.fields(facts(found))
    if found.gpus:
        click.echo()
        output.table(_GPU_HEAD, [_card(gpu) for gpu in found.gpus])
    if holders := list(processes(found)):
        click.echo()
        output.table(_PROCESS_HEAD, holders)
    if lines := list(drawn(history, found)):
        click.echo()
        output.table(("the last hour" if hour else "the last minute", "", "now"), lines)


def rows(host: "HostView") -> "Iterator[tuple[str, ...]]":
    """The lines of a machine: all of it beside the first GPU, then one line for every other GPU."""
    first, *others = [_gpu(gpu) for gpu in host.gpus] or [("",) * 5]
    cpu = f"{host.cpu.percent:.0f}% of {host.cpu.cores}" if host.cpu else ""
    agents, models = ", ".join(host.agents), str(len(host.models))
    yield (host.name, cpu, _space(host.ram), _space(host.disk), *first, agents, models, _reported(host))
    for gpu in others:
        yield ("", "", "", "", *gpu, "", "", "")


def facts(host: "HostView") -> dict[str, str]:
    """A machine as it is now, but for its GPUs."""
    load = ", ".join(f"{each:.2f}" for each in host.cpu.load) if host.cpu and host.cpu.load else ""
    cpu = f"{host.cpu.percent:.0f}% of {host.cpu.cores} cores" if host.cpu else ""
    cores = "".join(_bar(each / 100) for each in host.cpu.per_core) if host.cpu else ""
    return {
        "name": host.name,
        "state": "online" if host.online else "offline",
        "reported": _reported(host),
        "agents": ", ".join(host.agents),
        "cpu": "  ".join(filter(None, (cpu, cores, load and f"load {load}"))),
        "ram": _space(host.ram),
        "swap": _space(host.swap),
        "disk": _space(host.disk),
        "workspaces": _space(host.workspace),
        "models": ", ".join(host.models),
        **{f"! {name}": note for name, note in sorted(host.notes.items())},
    }


def processes(host: "HostView") -> "Iterator[tuple[str, ...]]":
    """Who holds memory of the GPUs, the largest first on each."""
    for number, gpu in enumerate(host.gpus):
        for each in gpu.processes:
            held, whose = output.size(each.vram_bytes) or "?", _WHOSE[each.owner]
            yield (f"{number} {gpu.name}", str(each.pid), each.name or "?", held, whose)


def drawn(history: "HostHistory", host: "HostView") -> "Iterator[tuple[str, ...]]":
    """The figures over time, a bar a moment."""
    names = {gpu.uuid or f"{gpu.vendor}:{gpu.index}": f"{number} {gpu.name}" for number, gpu in enumerate(host.gpus)}
    for metric, called, full in _LINES:
        for series in history.series:
            if series.metric == metric and (not series.gpu or series.gpu in names):
                label = f"{called} {names.get(series.gpu, '')}".strip()
                yield (label, sparkline(series.mean, full), _figure(metric, series.mean))


def sparkline(figures: "Sequence[float | None]", full: float) -> str:
    """A bar for each figure; a gap for one that was not known. ``full`` 0: the largest of them is a full bar."""
    full = full or max((each for each in figures if each is not None), default=0.0)
    return "".join(" " if each is None else _bar(each / full if full else 0.0) for each in figures)


def _bar(share: float) -> str:
    return _BARS[max(0, min(len(_BARS) - 1, int(share * len(_BARS))))]


def _figure(metric: str, figures: "Sequence[float | None]") -> str:
    now = figures[-1] if figures else None
    if now is None:
        return ""
    if metric.endswith("_bytes"):
        return output.size(now)
    return f"{now:.0f} C" if metric == "temperature_c" else f"{now:.0f}%"


def _reported(host: "HostView") -> str:
    return f"{output.age(host.at)} ago" if host.at else "never"


def _gpu(gpu: "GpuReport") -> tuple[str, ...]:
    vram = _parts(gpu.vram_used_bytes, gpu.vram_total_bytes)
    return gpu.name, vram, output.size(gpu.vram_foreign_bytes), _percent(gpu.utilization), _heat(gpu)


def _card(gpu: "GpuReport") -> tuple[str, ...]:
    watts = [f"{each:.0f}" for each in (gpu.power_w, gpu.power_limit_w) if each is not None]
    kind = f"{gpu.name} (memory of the machine)" if gpu.unified else gpu.name
    return (
        f"{kind}, part of {gpu.part_of}" if gpu.part_of else kind,
        _parts(gpu.vram_used_bytes, gpu.vram_total_bytes),
        output.size(gpu.vram_ours_bytes),
        output.size(gpu.vram_foreign_bytes),
        _percent(gpu.utilization),
        _heat(gpu),
        f"{'/'.join(watts)} W" if watts else "",
        gpu.driver,
        gpu.uuid,
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}%"


def _heat(gpu: "GpuReport") -> str:
    return "" if gpu.temperature_c is None else f"{gpu.temperature_c:.0f} C"


def _space(space: "SpaceReport | None") -> str:
    return _parts(space.used_bytes, space.total_bytes) if space else ""


def _parts(used_bytes: int | None, total_bytes: int | None) -> str:
    """``1.5/64.0 GiB``, ``512.0 MiB/64.0 GiB``; what is not known is ``?``, and empty if nothing is."""
    if used_bytes is None and total_bytes is None:
        return ""
    used, total = output.size(used_bytes) or "?", output.size(total_bytes) or "?"
    unit = total.partition(" ")[2]
    return f"{used.removesuffix(f' {unit}') if unit else used}/{total}"

"""``agentcom hosts``: list machines and how busy they are."""

from typing import TYPE_CHECKING

import click

from agentcom.cli import output
from agentcom.cli.connection import HubCommand, NounGroup, connected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentcom.client import Client
    from protocol.api import HostView
    from protocol.machine import GpuReport, SpaceReport

_HEAD = ("host", "cpu", "ram", "disk", "gpu", "vram", "load", "temp", "agents", "models", "reported")


@click.group(name="hosts", cls=NounGroup)
def command() -> None:
    """List machines and how busy they are. Without a verb: ls."""


@command.command(name="ls", cls=HubCommand)
@connected
def ls(hub: "Client", as_json: bool) -> None:  # noqa: FBT001 - click calls it
    """List machines: processors, memory, disk, GPUs, agents, models.

    A machine with several GPUs takes a line for each.
    """
    found = hub.hosts()
    if as_json:
        output.say_json(found)
        return
    empty = "no hosts yet; a sidecar brings its own: agentcom sidecar --hub URL --token-file FILE"
    output.table(_HEAD, [row for host in found.hosts for row in rows(host)], empty=empty)


def rows(host: "HostView") -> "Iterator[tuple[str, ...]]":
    """The lines of a machine: all of it beside the first GPU, then one line for every other GPU."""
    first, *others = [_gpu(gpu) for gpu in host.gpus] or [("", "", "", "")]
    cpu = f"{host.cpu.percent:.0f}% of {host.cpu.cores}" if host.cpu else ""
    reported = f"{output.age(host.at)} ago" if host.at else "never"
    agents, models = ", ".join(host.agents), str(len(host.models))
    yield (host.name, cpu, _space(host.ram), _space(host.disk), *first, agents, models, reported)
    for gpu in others:
        yield ("", "", "", "", *gpu, "", "", "")


def _gpu(gpu: "GpuReport") -> tuple[str, str, str, str]:
    vram = _parts(gpu.vram_used_bytes, gpu.vram_total_bytes)
    load = "" if gpu.utilization is None else f"{gpu.utilization:.0f}%"
    return gpu.name, vram, load, "" if gpu.temperature_c is None else f"{gpu.temperature_c:.0f} C"


def _space(space: "SpaceReport | None") -> str:
    return _parts(space.used_bytes, space.total_bytes) if space else ""


def _parts(used_bytes: int | None, total_bytes: int | None) -> str:
    """``1.5/64.0 GiB``, ``512.0 MiB/64.0 GiB``; what is not known is ``?``, and empty if nothing is."""
    if used_bytes is None and total_bytes is None:
        return ""
    used, total = output.size(used_bytes) or "?", output.size(total_bytes) or "?"
    unit = total.partition(" ")[2]
    return f"{used.removesuffix(f' {unit}') if unit else used}/{total}"

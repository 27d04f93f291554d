"""``agentcom top``: the dashboard's live view in a terminal."""

import sys
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from agentcom.cli.connection import HubCommand, connected
from protocol.errors import AgentComError, Refused, Unavailable

if TYPE_CHECKING:
    from agentcom.client import Client
    from agentcom.live import Tables

_SILENT_S = 7.0
"""The hub speaks every five seconds: after this long the line is broken."""
_DRAW_S = 0.5
_FIGURES_S = 60.0
"""A new point comes every minute."""


class _Watch(threading.Thread):
    """Reads the stream; what it knows is replaced as a whole, so that whoever draws sees one moment."""

    def __init__(self, hub: "Client") -> None:
        super().__init__(daemon=True, name="top")
        self.hub, self.heard_at = hub, 0.0
        self.told: Tables = {}
        self.overview: dict[str, float] = {}
        self.error: AgentComError | None = None

    def run(self) -> None:
        due_at = 0.0
        try:
            for told in self.hub.live():
                self.told, self.heard_at = told, time.monotonic()
                if self.heard_at >= due_at:
                    self.overview = _figures(self.hub) or self.overview
                    due_at = time.monotonic() + _FIGURES_S
        except AgentComError as exc:
            self.error = exc


@click.command(name="top", cls=HubCommand)
@click.option("--once", is_flag=True, help="Print what there is, and stop.")
@connected
def command(hub: "Client", as_json: bool, once: bool) -> None:  # noqa: FBT001 - click calls it
    """Watch what the dashboard shows live, until Ctrl-C: alerts, machines, tasks.

    With --once, or where output is no terminal, once.
    """
    from agentcom.cli import output

    if as_json:
        output.say_json({**next(hub.live()), "figures": _figures(hub)})
        return
    if once or not sys.stdout.isatty():
        for line in _lines(next(hub.live()), _figures(hub), None, 120, 1_000):
            click.echo(line.rstrip())
        return
    _watch(hub)


def _watch(hub: "Client") -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    reader, console = _Watch(hub), Console(highlight=False)
    reader.start()
    with Live(console=console, screen=True, auto_refresh=False) as shown:
        while reader.error is None:
            silent_s = time.monotonic() - reader.heard_at
            age_s = silent_s if silent_s > _SILENT_S else None
            lines = _lines(reader.told, reader.overview, age_s, console.width, console.height)
            shown.update(Text("\n".join(lines)), refresh=True)
            time.sleep(_DRAW_S)  # the next picture; what is told meanwhile is read by the thread
    raise reader.error


def _figures(hub: "Client") -> dict[str, float]:
    """What the last hour was; nothing where this token or a hub that is busy does not tell: the rest is shown."""
    from agentcom.live import FIGURES, FIGURES_STEP_S, figures

    try:
        return figures(hub.metrics(FIGURES, step_s=FIGURES_STEP_S))
    except (Refused, Unavailable):
        return {}


def _lines(tables: "Tables", overview: dict[str, float], age_s: float | None, width: int, height: int) -> list[str]:
    from agentcom.live import screen

    return screen(tables, now=datetime.now(UTC), age_s=age_s, width=width, height=height, overview=overview)

"""``agentcom top``: the dashboard's live view in a terminal."""

import sys
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from agentcom.cli.connection import HubCommand, connected
from protocol.errors import AgentComError

if TYPE_CHECKING:
    from agentcom.client import Client
    from agentcom.live import Tables

_SILENT_S = 7.0
"""The hub speaks every five seconds: after this long the line is broken."""
_DRAW_S = 0.5


class _Watch(threading.Thread):
    """Reads the stream; what it knows is replaced as a whole, so that whoever draws sees one moment."""

    def __init__(self, hub: "Client") -> None:
        super().__init__(daemon=True, name="top")
        self.hub, self.heard_at = hub, 0.0
        self.told: Tables = {}
        self.error: AgentComError | None = None

    def run(self) -> None:
        try:
            for told in self.hub.live():
                self.told, self.heard_at = told, time.monotonic()
        except AgentComError as exc:
            self.error = exc


@click.command(name="top", cls=HubCommand)
@click.option("--once", is_flag=True, help="Print what there is, and stop.")
@connected
def command(hub: "Client", as_json: bool, once: bool) -> None:  # noqa: FBT001 - click calls it
    """Watch machines, GPUs and tasks live, until Ctrl-C.

    With --once, or where output is no terminal, once.
    """
    from agentcom.cli import output

    if as_json:
        output.say_json(next(hub.live()))
        return
    if once or not sys.stdout.isatty():
        for line in _lines(next(hub.live()), None, 120, 1_000):
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
            lines = _lines(reader.told, age_s, console.width, console.height)
            shown.update(Text("\n".join(lines)), refresh=True)
            time.sleep(_DRAW_S)  # the next picture; what is told meanwhile is read by the thread
    raise reader.error


def _lines(tables: "Tables", age_s: float | None, width: int, height: int) -> list[str]:
    from agentcom.live import screen

    return screen(tables, now=datetime.now(UTC), age_s=age_s, width=width, height=height)

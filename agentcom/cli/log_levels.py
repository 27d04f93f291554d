"""``agentcom log-levels``: from which level on the parts of the mesh log, seen and set while they run."""

from typing import TYPE_CHECKING

import click

from agentcom.cli import output
from agentcom.cli.connection import HubCommand, NounGroup, connected

if TYPE_CHECKING:
    from agentcom.client import Client
    from protocol.log_levels import LevelList

LEVELS = ("debug", "info", "warning", "error")


@click.group(name="log-levels", cls=NounGroup)
def command() -> None:
    """Set from which level on who logs, while it runs. Without a verb: ls."""


@command.command(name="ls", cls=HubCommand)
@click.option("--all", "every", is_flag=True, help="Also all components that log as usual.")
@connected
def ls(hub: "Client", as_json: bool, every: bool) -> None:  # noqa: FBT001 - click calls it
    """List the levels that somebody has set."""
    found = hub.log_levels()
    if as_json:
        output.say_json(found)
        return
    rows = [(view.component, view.level.value, f"{output.age(view.changed_at)} ago") for view in found.levels]
    if every:
        known = {view.component for view in found.levels}
        rows += [(name, "as usual", "") for name in found.components if name not in known]
    empty = f"all log from {found.usual} on; change that with: agentcom log-levels set hub.web debug"
    output.table(("component", "level", "set"), rows, empty=empty)


@command.command(name="set", cls=HubCommand)
@click.argument("component")
@click.argument("level", type=click.Choice(LEVELS))
@connected
def put(hub: "Client", as_json: bool, component: str, level: str) -> None:  # noqa: FBT001 - click calls it
    """Have a part log from LEVEL on, at once and after restarts.

    COMPONENT is one that ls --all shows, what such a name begins with (hub.web),
    a library (aiohttp), or sidecar: all of them, or a part (sidecar.link).
    """
    _tell(hub.set_log_levels({component: level}), component, as_json=as_json)


@command.command(name="reset", cls=HubCommand)
@click.argument("component")
@connected
def reset(hub: "Client", as_json: bool, component: str) -> None:  # noqa: FBT001 - click calls it
    """Have a part log as usual again."""
    _tell(hub.set_log_levels({component: None}), component, as_json=as_json)


def _tell(found: "LevelList", component: str, *, as_json: bool) -> None:
    if as_json:
        output.say_json(found)
        return
    level = next((view.level for view in found.levels if view.component == component), None)
    click.echo(f"{component}: {'as usual' if level is None else f'from {level} on'}")

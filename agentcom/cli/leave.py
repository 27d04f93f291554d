"""``agentcom leave``: take this machine out of its mesh."""

import click

from agentcom.cli import endings
from agentcom.cli.join import told
from protocol.errors import BadInput, Problem


@click.command(name="leave")
@click.option("--purge", is_flag=True, help="Leave nothing behind: no state, no key, no settings.")
@click.option("--config", default="", metavar="FILE", help="Settings file of the sidecar.")
@click.option("--state-dir", default="", metavar="DIR", help="Where the sidecar keeps its state.")
def command(purge: bool, config: str, state_dir: str) -> int:  # noqa: FBT001 - click calls it
    """Take this machine out of its mesh.

    What runs here ends first; then the hub ends its token. Without --purge it can come back as what it was, with
    'agentcom rejoin'.
    """
    from provisioning import settings
    from provisioning.join import leave
    from provisioning.steps import StepFailed
    from provisioning.upgrade import alone

    places = settings.load(config=config, state_dir=state_dir)
    if not places.note.is_file():
        raise BadInput([Problem("leave", f"this machine has not joined: there is no {places.note}")], "command")
    try:
        with alone(places):
            leave(places, purge=purge, tell=told)
    except StepFailed as exc:
        click.echo(f"next: {exc.fix}", err=True)
        return exc.status
    return endings.DONE

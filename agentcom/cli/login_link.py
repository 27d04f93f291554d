"""``agentcom login-link``: a link that opens the dashboard in a browser, once."""

from typing import TYPE_CHECKING

import click

from agentcom.cli import output
from agentcom.cli.connection import HubCommand, connected

if TYPE_CHECKING:
    from agentcom.client import Client


@click.command(name="login-link", cls=HubCommand)
@connected
def command(hub: "Client", as_json: bool) -> None:  # noqa: FBT001 - click calls it
    """Print a link that opens the dashboard. It works once, within 5 minutes.

    Whoever follows it may do what your token may do.
    """
    ticket = hub.session_ticket()
    url = f"{hub.url}{ticket.path}"
    if as_json:
        output.say_json({"url": url, "expires_at": ticket.expires_at})
    else:
        click.echo(url)

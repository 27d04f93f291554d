"""``agentcom token``: make, list and revoke tokens."""

from typing import TYPE_CHECKING

import click

from agentcom.cli import output
from agentcom.cli.connection import HubCommand, NounGroup, connected

if TYPE_CHECKING:
    from agentcom.client import Client


@click.group(name="token", cls=NounGroup)
def command() -> None:
    """Make, list and revoke tokens. Without a verb: ls."""


@command.command(name="create", cls=HubCommand)
@click.option("--role", required=True, metavar="ROLE", help="admin, operator, submitter, viewer or agent.")
@click.option("--label", default="", metavar="TEXT", help="What it is for.")
@click.option("--ttl", "ttl_s", type=float, metavar="S", help="Seconds until it expires; never if left out.")
@connected
def create(hub: "Client", as_json: bool, role: str, label: str, ttl_s: float | None) -> None:  # noqa: FBT001 - click
    """Make a token. Its secret is shown only now; stdout holds nothing else."""
    made = hub.create_token(role, label=label, ttl_s=ttl_s)
    if as_json:
        output.say_json(made)
        return
    until = f"until {made.expires_at:%Y-%m-%d %H:%M} UTC" if made.expires_at else "until it is revoked"
    click.echo(f"token {made.id}, role {made.role.value}, good {until}; keep it, it is shown only now:", err=True)
    click.echo(made.token)


@command.command(name="ls", cls=HubCommand)
@connected
def ls(hub: "Client", as_json: bool) -> None:  # noqa: FBT001 - click calls it
    """List tokens, without their secrets."""
    found = hub.tokens()
    if as_json:
        output.say_json(found)
        return
    rows = [
        (
            token.id,
            token.role.value,
            token.label,
            "revoked" if token.revoked_at else "good",
            output.age(token.created_at),
            f"{token.expires_at:%Y-%m-%d %H:%M}" if token.expires_at else "never",
            output.age(token.last_used_at) or "never",
        )
        for token in found.tokens
    ]
    output.table(("token", "role", "label", "state", "age", "expires", "used"), rows)


@command.command(name="revoke", cls=HubCommand)
@click.argument("token")
@connected
def revoke(hub: "Client", as_json: bool, token: str) -> None:  # noqa: FBT001 - click calls it
    """Revoke the token with this id, at once."""
    hub.revoke_token(token)
    if as_json:
        output.say_json({"id": token})
    else:
        click.echo(f"token {token} is revoked")

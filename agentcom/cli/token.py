"""``agentcom token``: make, list and revoke tokens: those of people, and those with which machines join."""

import re
from typing import TYPE_CHECKING, Final

import click

from agentcom.cli import output
from agentcom.cli.connection import HubCommand, NounGroup, connected
from protocol.errors import BadInput, NotFound, Problem
from protocol.joining import JoinTokenBody

if TYPE_CHECKING:
    from agentcom.client import Client

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_UNITS_S: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


class Duration(click.ParamType[float]):
    """Seconds, or a number with its unit: ``90``, ``30m``, ``1h``, ``7d``."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds that ``value`` means."""
        match = _DURATION.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no time like 90, 30m, 1h or 7d", param, ctx)
        return float(match[1]) * _UNITS_S[match[2]]


@click.group(name="token", cls=NounGroup)
def command() -> None:
    """Make, list and revoke tokens. Without a verb: ls."""


@command.command(name="create", cls=HubCommand)
@click.option("--role", metavar="ROLE", help="admin, operator, submitter, viewer or agent.")
@click.option("--label", default="", metavar="TEXT", help="What it is for.")
@click.option("--ttl", "ttl_s", type=Duration(), metavar="S", help="How long it is good: seconds, or 30m, 1h, 7d.")
@click.option("--uses", type=int, metavar="N", help="How many machines may join with it (no role); 1 if left out.")
@click.option("--url", default="", metavar="URL", help="The hub's address as the machine sees it (no role).")
@click.option("--project", "projects", multiple=True, metavar="NAME", help="Good for this project only; repeatable.")
@click.option("--agent", "agents", multiple=True, metavar="NAME", help="Good for this sidecar only; repeatable.")
@connected
def create(  # noqa: PLR0913, PLR0917 - click passes each option
    hub: "Client",
    as_json: bool,  # noqa: FBT001 - click calls it
    role: str | None,
    label: str,
    ttl_s: float | None,
    uses: int | None,
    url: str,
    projects: tuple[str, ...],
    agents: tuple[str, ...],
) -> None:
    """Make a token; without --role one with which a machine joins.

    Its secret is shown only now; stdout holds nothing else. A token with a role never expires without --ttl. Without a
    role: the command to run on the new machine, good for one machine and an hour.
    """
    if role is None and (projects or agents):
        raise BadInput([Problem("--role", "name one: a join token is bound to no project and to no name")], "command")
    if role is None:
        ttl_s = 3_600.0 if ttl_s is None else ttl_s
        _create_join(hub, JoinTokenBody(label=label, ttl_s=ttl_s, uses=1 if uses is None else uses, url=url), as_json)
        return
    if uses is not None or url:
        raise BadInput([Problem("--uses" if uses else "--url", "only for join tokens, which have no role")], "command")
    made = hub.create_token(role, label=label, ttl_s=ttl_s, projects=projects, agents=agents)
    if as_json:
        output.say_json(made)
        return
    until = f"until {made.expires_at:%Y-%m-%d %H:%M} UTC" if made.expires_at else "until it is revoked"
    click.echo(f"token {made.id}, role {made.role.value}, good {until}; keep it, it is shown only now:", err=True)
    click.echo(made.token)


def _create_join(hub: "Client", body: JoinTokenBody, as_json: bool) -> None:  # noqa: FBT001 - as its caller
    made = hub.create_join_token(label=body.label, ttl_s=body.ttl_s, uses=body.uses, url=body.url)
    if as_json:
        output.say_json(made)
        return
    machines = "one machine" if made.uses == 1 else f"{made.uses} machines"
    until = f"until {made.expires_at:%Y-%m-%d %H:%M} UTC"
    click.echo(f"join token {made.id}, for {machines}, good {until}. On the new machine:", err=True)
    click.echo(made.command)
    if made.install:
        click.echo("or, where AgentCom is not installed:", err=True)
        click.echo(made.install)
    if made.note:
        click.echo(f"note: {made.note}", err=True)


@command.command(name="ls", cls=HubCommand)
@click.option("--join", "of_joins", is_flag=True, help="Those with which machines join.")
@connected
def ls(hub: "Client", as_json: bool, of_joins: bool) -> None:  # noqa: FBT001 - click calls it
    """List tokens, without their secrets."""
    if of_joins:
        _ls_joins(hub, as_json)
        return
    found = hub.tokens()
    if as_json:
        output.say_json(found)
        return
    rows = [
        (
            token.id,
            token.role.value,
            token.label,
            ", ".join((*token.projects, *token.agents)) or "all",
            "revoked" if token.revoked_at else "good",
            output.age(token.created_at),
            f"{token.expires_at:%Y-%m-%d %H:%M}" if token.expires_at else "never",
            output.age(token.last_used_at) or "never",
        )
        for token in found.tokens
    ]
    output.table(("token", "role", "label", "for", "state", "age", "expires", "used"), rows)


def _ls_joins(hub: "Client", as_json: bool) -> None:  # noqa: FBT001 - as its caller
    found = hub.join_tokens()
    if as_json:
        output.say_json(found)
        return
    rows = [
        (
            token.id,
            token.label,
            token.state,
            f"{token.used}/{token.uses}",
            output.age(token.created_at),
            f"{token.expires_at:%Y-%m-%d %H:%M}",
        )
        for token in found.join_tokens
    ]
    output.table(("token", "label", "state", "used", "age", "expires"), rows)


@command.command(name="revoke", cls=HubCommand)
@click.argument("token")
@connected
def revoke(hub: "Client", as_json: bool, token: str) -> None:  # noqa: FBT001 - click calls it
    """Revoke the token with this id, at once."""
    try:
        hub.revoke_token(token)
    except NotFound:
        hub.revoke_join_token(token)
    if as_json:
        output.say_json({"id": token})
    else:
        click.echo(f"token {token} is revoked")

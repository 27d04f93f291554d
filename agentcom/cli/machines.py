"""``agentcom machines``: machines that ask to join without a token, and what a person says to that."""

from typing import TYPE_CHECKING

import click

from agentcom.cli import output
from agentcom.cli.connection import HubCommand, NounGroup, connected

if TYPE_CHECKING:
    from agentcom.client import Client


@click.group(name="machines", cls=NounGroup)
def command() -> None:
    """Let machines in that ask to join without a token, or throw one out.

    Without a verb: ls.
    """


@command.command(name="ls", cls=HubCommand)
@connected
def ls(hub: "Client", as_json: bool) -> None:  # noqa: FBT001 - click calls it
    """List machines that wait; each shows its code on its screen."""
    found = hub.join_requests()
    if as_json:
        output.say_json(found)
        return
    rows = [
        (one.code, one.facts.host, one.address, one.facts.system, one.name or "any", output.age(one.asked_at))
        for one in found.join_requests
    ]
    output.table(("code", "host", "address", "system", "name", "waits"), rows)


@command.command(name="approve", cls=HubCommand)
@click.argument("code")
@connected
def approve(hub: "Client", as_json: bool, code: str) -> None:  # noqa: FBT001 - click calls it
    """Let the machine in that shows this code."""
    _decide(hub, code, as_json=as_json, is_approved=True)


@command.command(name="deny", cls=HubCommand)
@click.argument("code")
@connected
def deny(hub: "Client", as_json: bool, code: str) -> None:  # noqa: FBT001 - click calls it
    """Keep the machine out that shows this code."""
    _decide(hub, code, as_json=as_json, is_approved=False)


@command.command(name="rm", cls=HubCommand)
@click.argument("name")
@connected
def rm(hub: "Client", as_json: bool, name: str) -> None:  # noqa: FBT001 - click calls it
    """Throw the machine out that has joined as NAME."""
    hub.remove_machine(name)
    if as_json:
        output.say_json({"removed": name})
    else:
        click.echo(f"{name} is out; it comes back only if you let it in again")


def _decide(hub: "Client", code: str, *, as_json: bool, is_approved: bool) -> None:
    hub.decide_join(code.strip().lower(), is_approved=is_approved)
    if as_json:
        output.say_json({"code": code, "approved": is_approved})
    else:
        click.echo(f"machine {code} may join" if is_approved else f"machine {code} stays out")

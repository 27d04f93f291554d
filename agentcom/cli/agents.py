"""``agentcom agents``: list agents, take them out of service and back."""

from typing import TYPE_CHECKING

import click

from agentcom.cli import output
from agentcom.cli.connection import HubCommand, NounGroup, connected
from protocol.progress import RECLAIMED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentcom.client import Client
    from protocol.api import AgentView

_SANDBOX = "sandbox:"


@click.group(name="agents", cls=NounGroup)
def command() -> None:
    """List agents, take them out of service and back. Without a verb: ls."""


@command.command(name="ls", cls=HubCommand)
@connected
def ls(hub: "Client", as_json: bool) -> None:  # noqa: FBT001 - click calls it
    """List agents."""
    found = hub.agents()
    if as_json:
        output.say_json(found)
        return
    rows = [
        (
            agent.name,
            f"{'quarantine' if agent.quarantine else agent.state.value}{', GPU taken back' if is_back(agent) else ''}",
            agent.host,
            f"{agent.busy}/{agent.slots}",
            sandbox_of(agent.capabilities),
            ",".join(each for each in agent.capabilities if not each.startswith(_SANDBOX)),
            output.age(agent.last_seen_at),
        )
        for agent in found.agents
    ]
    empty = "no agents yet; start one with: agentcom sidecar --hub URL --token-file FILE"
    output.table(("agent", "state", "host", "busy", "sandbox", "capabilities", "seen"), rows, empty=empty)


def _told(agent: "AgentView") -> str:
    return f"{agent.quarantine}; once the copy is gone: agentcom agents release {agent.name}" * bool(agent.quarantine)


def is_back(agent: "AgentView") -> bool:
    """Whether the owner of the agent's machine has taken its GPU back."""
    return RECLAIMED in agent.capabilities


def sandbox_of(capabilities: "Sequence[str]") -> str:
    """How an agent confines what its work runs; "unknown" of one that does not say so."""
    return next((each.removeprefix(_SANDBOX) for each in capabilities if each.startswith(_SANDBOX)), "unknown")


@command.command(name="show", cls=HubCommand)
@click.argument("name")
@connected
def show(hub: "Client", as_json: bool, name: str) -> None:  # noqa: FBT001 - click calls it
    """Show one agent."""
    agent = hub.agent(name)
    if as_json:
        output.say_json(agent)
        return
    output.fields(
        {
            "agent": agent.name,
            "state": agent.state.value,
            "host": agent.host,
            "busy": f"{agent.busy} of {agent.slots} slots",
            "sandbox": sandbox_of(agent.capabilities),
            "tasks": ", ".join(agent.tasks),
            "capabilities": ", ".join(agent.capabilities),
            "version": f"{agent.version}, upgrading: {agent.upgrade}" if agent.upgrade else agent.version,
            "upgrade": f"failed: {agent.upgrade_failed}" if agent.upgrade_failed else "",
            "boot": str(agent.boot_epoch),
            "seen": f"{output.age(agent.last_seen_at)} ago" if agent.last_seen_at else "never",
            "draining": "yes; back into service with: agentcom agents resume" if agent.draining else "",
            "GPU": "taken back; back to work with: agentcom agents give-back" if is_back(agent) else "",
            "quarantine": _told(agent),
            "alarm": agent.alarm,
        }
    )


@command.command(name="drain", cls=HubCommand)
@click.argument("name")
@connected
def drain(hub: "Client", as_json: bool, name: str) -> None:  # noqa: FBT001 - click calls it
    """Let an agent finish what it has and give it nothing new."""
    agent = hub.drain(name)
    if as_json:
        output.say_json(agent)
    else:
        click.echo(f"{agent.name} gets no new work; {agent.busy} running. Back with: agentcom agents resume {name}")


@command.command(name="release", cls=HubCommand)
@click.argument("name")
@connected
def release(hub: "Client", as_json: bool, name: str) -> None:  # noqa: FBT001 - click calls it
    """End the quarantine of an agent; its copy is gone."""
    agent = hub.release(name)
    if as_json:
        output.say_json(agent)
    else:
        click.echo(f"{agent.name} is {agent.state.value} and may get work again")


@command.command(name="resume", cls=HubCommand)
@click.argument("name")
@connected
def resume(hub: "Client", as_json: bool, name: str) -> None:  # noqa: FBT001 - click calls it
    """Give a drained agent work again."""
    agent = hub.resume(name)
    if as_json:
        output.say_json(agent)
    else:
        click.echo(f"{agent.name} is {agent.state.value} and takes work again")


@command.command(name="reclaim", cls=HubCommand)
@click.argument("name")
@connected
def reclaim(hub: "Client", as_json: bool, name: str) -> None:  # noqa: FBT001 - click calls it
    """Take a machine's GPU back from work of models.

    Running work stops at the end of its turn, or soon, and goes on elsewhere; models that were loaded for it leave.
    """
    agent = hub.reclaim(name)
    if as_json:
        output.say_json(agent)
    else:
        click.echo(f"{agent.host} has its GPU back. To work again with: agentcom agents give-back {name}")


@command.command(name="give-back", cls=HubCommand)
@click.argument("name")
@connected
def give_back(hub: "Client", as_json: bool, name: str) -> None:  # noqa: FBT001 - click calls it
    """Give a machine's GPU to work again."""
    agent = hub.give_back(name)
    if as_json:
        output.say_json(agent)
    else:
        click.echo(f"models on {agent.host} work again")


@command.command(name="rm", cls=HubCommand)
@click.argument("name")
@connected
def rm(hub: "Client", as_json: bool, name: str) -> None:  # noqa: FBT001 - click calls it
    """Forget an agent that is gone for good."""
    hub.remove_agent(name)
    if as_json:
        output.say_json({"removed": name})
    else:
        click.echo(f"{name} is forgotten; if it comes back, it is new")

"""``agentcom machines``: machines that ask to join without a token, and another release for those that have joined."""

import time
from typing import TYPE_CHECKING

import click

from agentcom.cli import endings, output
from agentcom.cli.connection import HubCommand, NounGroup, connected

if TYPE_CHECKING:
    from agentcom.client import Client

_MARKS = {"ok": "ok  ", "left": "left", "fail": "FAIL"}


@click.group(name="machines", cls=NounGroup)
def command() -> None:
    """Let machines in, throw them out, give them the hub's release.

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


@command.command(name="upgrade", cls=HubCommand)
@click.argument("names", nargs=-1)
@click.option("--batch", default=5, type=click.IntRange(1, 1000), metavar="N", help="Machines at a time (5).")
@click.option("--timeout", "timeout_s", default=1800.0, metavar="S", help="Seconds that one may take (1800).")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@click.option("--yes", "says_yes", is_flag=True, help="Ask nothing.")
@connected
def upgrade(
    hub: "Client",
    as_json: bool,  # noqa: FBT001 - click calls it
    names: tuple[str, ...],
    batch: int,
    timeout_s: float,
    dry_run: bool,  # noqa: FBT001 - click calls it
    says_yes: bool,  # noqa: FBT001 - click calls it
) -> int:
    """Give machines the release of the hub: all, or NAMES.

    One goes first, then some at a time: each ends its work, gets the release, and works again. One that fails goes back
    to the release before, and no other is begun. Machines that no hub has installed are left out.
    """
    from agentcom.rollout import Rollout, planned

    for name in names:
        hub.agent(name)
    release = hub.health().version
    plan = planned(hub.agents().agents, release, batch, names)
    if as_json and (dry_run or not plan.waves):
        output.say_json({"release": release, "waves": plan.waves, "left_out": plan.left_out})
        return endings.DONE
    for name, why in plan.left_out.items():
        click.echo(f"left {name}: {why}")
    if not plan.waves:
        click.echo(f"no machine is to get {release}")
        return endings.DONE
    for number, wave in enumerate(plan.waves, 1):
        click.echo(f"{number}. {', '.join(wave)}")
    if dry_run:
        return endings.DONE
    if not says_yes:
        click.confirm(f"Give them {release}?", default=True, abort=True)
    rollout = Rollout(hub, release, timeout_s, _told, now=time.monotonic, wait=time.sleep)
    if rollout.run(plan.waves):
        return endings.DONE
    click.echo("next: on that machine, agentcom upgrade tells more; the others stay as they are", err=True)
    return endings.WORK_FAILED


def _told(outcome: str, name: str, said: str) -> None:
    click.echo(f"{_MARKS[outcome]} {name}  {said}", err=outcome == "fail")


def _decide(hub: "Client", code: str, *, as_json: bool, is_approved: bool) -> None:
    hub.decide_join(code.strip().lower(), is_approved=is_approved)
    if as_json:
        output.say_json({"code": code, "approved": is_approved})
    else:
        click.echo(f"machine {code} may join" if is_approved else f"machine {code} stays out")

"""``agentcom restore``: put a backup in the place of a hub's store; what was there moves aside, nothing is deleted."""

import asyncio
import sys
import time
from datetime import datetime
from pathlib import Path

import click

from agentcom import settings
from agentcom.cli import endings, output
from protocol.errors import BadInput, Problem
from protocol.log_levels import LogLevel
from protocol.logs import configure


@click.command(name="restore")
@click.argument("file", metavar="FILE")
@click.option("--data-dir", metavar="DIR", help="Data directory of the hub; the usual one if left out.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON; errors too, on stderr.")
def command(file: str, data_dir: str | None, yes: bool, as_json: bool) -> int:  # noqa: FBT001 - click calls it
    """Put a backup in the place of a hub's store. Stop the hub first.

    \b
    FILE is looked through before anything changes. The store that is there moves to
    DIR/replaced-TIME. What happened after the backup is lost; what agents still do
    of it is turned away when they come back.
    """  # noqa: D301 - click wants the backspace character itself
    from hub import recovery

    configure(json=as_json, stream=sys.stderr, level=LogLevel.WARNING, is_final=False)
    folder = Path(settings.load({"data_dir": data_dir}).data_dir)
    source = Path(file).expanduser().absolute()
    facts = recovery.look_through(source)
    made = recovery.made_at(facts)
    if not as_json:
        click.echo(f"{source}: whole, {facts.tasks:,} tasks, made {made:%Y-%m-%d %H:%M:%SZ} ({output.age(made)} ago)")
    if not yes:
        _ask(folder)
    done = asyncio.run(recovery.restore(source, folder, int(time.time() * 1000)))
    if as_json:
        output.say_json(done)
        return endings.DONE
    click.echo(f"{done.store} is the store as it was at {made:%Y-%m-%d %H:%M:%SZ}")
    if done.replaced:
        click.echo(f"The one before lies in {done.replaced}; remove it when you no longer need it")
    click.echo(f"Lost: {_lost(done.lost, made)}")
    if done.requeued:
        click.echo(f"{done.requeued:,} tasks that agents held at that time run again")
    click.echo("Tokens made since then are gone, revoked ones count again: agentcom token ls")
    return endings.DONE


def _ask(folder: Path) -> None:
    if not sys.stdin.isatty():
        raise BadInput([Problem("yes", "nobody is there to ask; say --yes")], "restore")
    click.confirm(f"Replace the store in {folder}?", abort=True)


def _lost(lost: object, made: datetime) -> str:
    since = f"what happened in the {output.age(made)} since then"
    events, tasks = getattr(lost, "events", None), getattr(lost, "tasks", None)
    return since if events is None else f"{since} ({events:,} events; {tasks:,} tasks that are not in the backup)"

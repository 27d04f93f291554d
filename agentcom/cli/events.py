"""``agentcom events``: the one log of facts."""

from itertools import islice
from typing import TYPE_CHECKING

import click

from agentcom.cli import output
from agentcom.cli.connection import HubCommand, connected_for_tasks, task_id

if TYPE_CHECKING:
    from agentcom.blocking_tasks import TaskClient
    from protocol.api import EventView


@click.command(name="events", cls=HubCommand)
@click.option("--follow", "-f", is_flag=True, help="Go on with what happens next, until Ctrl-C.")
@click.option("--task", metavar="TASK", help="Only events of one task; following ends with it.")
@click.option("--kind", "kinds", multiple=True, metavar="K", help="Only events of this kind, repeatable.")
@click.option("--after", type=click.IntRange(min=0), metavar="SEQ", help="Begin behind this sequence number.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most this many.")
@connected_for_tasks
def command(
    hub: "TaskClient",
    as_json: bool,  # noqa: FBT001 - click calls it
    follow: bool,  # noqa: FBT001 - click calls it
    task: str | None,
    kinds: tuple[str, ...],
    after: int | None,
    limit: int | None,
) -> None:
    """Show events, oldest first; with --follow and nothing else, what happens from now on.

    With --json every event is one line.
    """
    if task and kinds:
        raise click.UsageError("give --task or --kind, not both")
    wanted = task_id(hub, task) if task else None
    if after is None and (not follow or wanted):
        after = 0
    for event in islice(hub.events(task=wanted, after=after, follow=follow, kinds=kinds), limit):
        if as_json:
            output.say_line_of_json(event)
        else:
            click.echo(output.printable(_line(event)))


def _line(event: "EventView") -> str:
    about = [event.task or "", event.agent or "", f"epoch {event.epoch}" if event.epoch else ""]
    facts = [f"{name}={value}" for name, value in event.facts.items() if value not in (None, "")]
    words = " ".join(word for word in (*about, *facts) if word)
    return f"{event.seq:>6}  {event.at:%H:%M:%S.%f}"[:-3] + f"  {event.kind:<18} {words}"

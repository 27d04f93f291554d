"""``agentcom pulls``: what was offered at the forge, and what waits for a person."""

from typing import TYPE_CHECKING

import click

from agentcom.cli import endings, output
from agentcom.cli.connection import HubCommand, NounGroup, connected, task_id

if TYPE_CHECKING:
    from agentcom.client import Client
    from protocol.pulls import PullView

_STATES = ("pending", "draft", "open", "merged", "closed", "failed")


@click.group(name="pulls", cls=NounGroup)
def command() -> None:
    """See pull requests of tasks, approve and retry them. Without a verb: ls."""


@command.command(name="ls", cls=HubCommand)
@click.option("--state", type=click.Choice(_STATES), metavar="S", help=f"Only these: {', '.join(_STATES)}.")
@click.option("--project", default="", metavar="P", help="Only those of this project.")
@connected
def ls(hub: "Client", as_json: bool, state: str | None, project: str) -> None:  # noqa: FBT001 - click calls it
    """List pull requests, the newest first."""
    found = hub.pulls(state=state or "", project=project)
    if as_json:
        output.say_json(found)
        return
    rows = [
        (
            pull.task[-8:],
            pull.project,
            pull.state.value,
            "" if pull.risk is None else pull.risk.value,
            "" if pull.number is None else f"#{pull.number}",
            pull.url,
            pull.problem or "; ".join(pull.reasons),
        )
        for pull in found.pulls
    ]
    output.table(("task", "project", "state", "risk", "number", "url", "why"), rows, empty="no pull requests")


@command.command(name="show", cls=HubCommand)
@click.argument("task")
@connected
def show(hub: "Client", as_json: bool, task: str) -> None:  # noqa: FBT001 - click calls it
    """Show the pull request of a task."""
    tell(hub.pull(task_id(hub, task)), as_json=as_json)


@command.command(name="approve", cls=HubCommand)
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@connected
def approve(hub: "Client", as_json: bool, tasks: tuple[str, ...]) -> int:  # noqa: FBT001 - click calls it
    """Let drafts go on: a person has looked at them."""
    for task in [task_id(hub, task) for task in tasks]:
        _say(hub.approve_pull(task), as_json=as_json)
    return endings.DONE


@command.command(name="retry", cls=HubCommand)
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@connected
def retry(hub: "Client", as_json: bool, tasks: tuple[str, ...]) -> int:  # noqa: FBT001 - click calls it
    """Ask the forge again, now."""
    for task in [task_id(hub, task) for task in tasks]:
        _say(hub.retry_pull(task), as_json=as_json)
    return endings.DONE


def tell(pull: "PullView", *, as_json: bool) -> None:
    """Print a pull request."""
    if as_json:
        output.say_json(pull)
        return
    output.fields(
        {
            "task": pull.task,
            "project": pull.project,
            "state": pull.state.value,
            "number": "" if pull.number is None else f"#{pull.number}",
            "url": pull.url,
            "from": f"{pull.branch} at {pull.commit[:12]}" if pull.branch else "",
            "into": pull.into,
            "risk": "" if pull.risk is None else pull.risk.value,
            "approved by": pull.approved_by,
            "problem": pull.problem,
        }
    )
    for reason in pull.reasons:
        click.echo(f"- {output.printable(reason)}")


def _say(pull: "PullView", *, as_json: bool) -> None:
    if as_json:
        output.say_line_of_json(pull)
        return
    click.echo(f"{pull.task} is {pull.state.value}, and looked at now")

"""``agentcom tasks pause, resume, take, hand-back``: hold a task up, and let it go on."""

from typing import TYPE_CHECKING

import click

from agentcom.cli import endings, output
from agentcom.cli.connection import HubCommand, connected_for_tasks, task_id

if TYPE_CHECKING:
    from agentcom.blocking_tasks import TaskClient
    from protocol.api import TaskView


@click.command(name="pause", cls=HubCommand)
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@click.option("--reason", default="", metavar="TEXT", help="Why, for whoever looks later.")
@connected_for_tasks
def pause(hub: "TaskClient", as_json: bool, tasks: tuple[str, ...], reason: str) -> int:  # noqa: FBT001 - click calls it
    """Have tasks wait; a model stops after its turn.

    What a model has done so far is kept, and another machine may go on with it. A command that has begun cannot pause.
    """
    for task in [task_id(hub, task) for task in tasks]:
        _say(hub.pause(task, reason), as_json=as_json)
    return endings.DONE


@click.command(name="resume", cls=HubCommand)
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@connected_for_tasks
def resume(hub: "TaskClient", as_json: bool, tasks: tuple[str, ...]) -> int:  # noqa: FBT001 - click calls it
    """Let paused tasks go on."""
    for task in [task_id(hub, task) for task in tasks]:
        _say(hub.resume_task(task), as_json=as_json)
    return endings.DONE


@click.command(name="take", cls=HubCommand)
@click.argument("task")
@click.option("--reason", default="", metavar="TEXT", help="Why, for whoever looks later.")
@connected_for_tasks
def take(hub: "TaskClient", as_json: bool, task: str, reason: str) -> int:  # noqa: FBT001 - click calls it
    """Take a task over from its agent.

    It stops as with pause. "tasks show" says where its work in progress is: change it there, and hand it back.
    """
    _say(hub.take(task_id(hub, task), reason), as_json=as_json)
    return endings.DONE


@click.command(name="hand-back", cls=HubCommand)
@click.argument("task")
@click.option("--note", default="", metavar="TEXT", help="What the model is told when it goes on.")
@connected_for_tasks
def hand_back(hub: "TaskClient", as_json: bool, task: str, note: str) -> int:  # noqa: FBT001 - click calls it
    """Hand a task back, with a word for its model."""
    _say(hub.hand_back(task_id(hub, task), note), as_json=as_json)
    return endings.DONE


def _say(task: "TaskView", *, as_json: bool) -> None:
    if as_json:
        output.say_line_of_json(task)
        return
    stopping = " and stops at the end of its turn" if task.hold is not None and task.hold.stopping else ""
    click.echo(f"{task.id} is {task.state.value}{stopping}")
    kept = task.progress
    if task.hold is not None and not stopping and kept is not None:
        if kept.ref:
            repository = task.spec.context.repo
            click.echo(f"work in progress: git fetch {output.printable(repository)} {output.printable(kept.ref)}")
        click.echo(f"conversation:     GET /api/v1/artifacts/{kept.transcript}/download")

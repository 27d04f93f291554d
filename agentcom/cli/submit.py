"""``agentcom submit``: give the mesh something to do, and wait for the proof if asked to."""

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

from agentcom.cli import endings, output, spec, story
from agentcom.cli.connection import PATIENCE_S, HubCommand, open_for_tasks, task_id, where

if TYPE_CHECKING:
    from agentcom.blocking_tasks import TaskClient
    from protocol.api import Submitted, TaskView
    from protocol.model import TaskSpec

_NAMED = 3


@click.command(name="submit", cls=HubCommand)
@click.argument("prompt", required=False)
@click.option("--shell", metavar="CMD", help="Run this command; costs no tokens.")
@click.option("--project", metavar="NAME", help="Project it belongs to; it inherits what the project says.")
@click.option("--repo", metavar="URL|PATH", help="Git repository to work in; a path becomes absolute.")
@click.option("--branch", metavar="B", help="Branch to start from.")
@click.option("--file", "files", multiple=True, metavar="P", help="File of the repository to look at, repeatable.")
@click.option(
    "--verify",
    multiple=True,
    metavar="CMD",
    help="Accept the work only if this command exits 0, repeatable. A test runner becomes a test_passes check.",
)
@click.option("--check", "checks", multiple=True, metavar="JSON", help="A check as in the API, repeatable.")
@click.option("--tier", metavar="T", help="How hard it is: trivial, standard or complex.")
@click.option("--model", metavar="M", help="Model to use.")
@click.option("--escalation", metavar="E", help="How far it may climb: off, effort, model or tier.")
@click.option("--clean-room", metavar="C", help="Whether another machine proves it: auto, always or never.")
@click.option("--priority", metavar="P", help="urgent, high, normal or low.")
@click.option("--title", metavar="T", help="What to call it.")
@click.option("--needs", multiple=True, metavar="CAP", help="Capability that the agent must have, repeatable.")
@click.option("--label", "labels", multiple=True, metavar="K=V", help="Label to find it by, repeatable.")
@click.option("--save-as", metavar="P", help="File that the answer of a chat goes to.")
@click.option("--artifact", "artifacts", multiple=True, metavar="P", help="File or pattern to keep, repeatable.")
@click.option("--secret", "secrets", multiple=True, metavar="[VAR=]NAME", help="Secret of the hub, repeatable.")
@click.option("--executor", metavar="E", help="auto, shell, chat, agent, acp or noop.")
@click.option("--fix-attempts", metavar="N", help="Repairs after failed checks.")
@click.option("--tokens", metavar="N", help="Most tokens of one attempt.")
@click.option("--usd", metavar="X", help="Most money of one attempt.")
@click.option("--timeout", metavar="S", help="Most seconds of one attempt.")
@click.option("--max-retries", metavar="N", help="Attempts after a failed one.")
@click.option("--after", multiple=True, metavar="TASK", help="Wait for this task to complete, repeatable.")
@click.option("--spec", metavar="FILE|-", help='Task spec as JSON, or {"tasks": [...]}; flags count more.')
@click.option(
    "--wait", is_flag=True, help="Wait for the end; exit 0 only if completed and nothing failed verification."
)
@click.option("--follow", is_flag=True, help="Like --wait, and show output, states and findings as they come.")
@where
def command(
    as_json: bool,  # noqa: FBT001 - click calls it
    wait: bool,  # noqa: FBT001 - click calls it
    follow: bool,  # noqa: FBT001 - click calls it
    hub: str | None,
    token_file: str | None,
    data_dir: str | None,
    **flags: Any,
) -> int:
    """Give the mesh something to do.

    \b
    agentcom submit "fix the failing test" --repo . --verify 'pytest -q' --follow
    agentcom submit --shell 'make' --wait
    """  # noqa: D301 - click wants the backspace character itself
    short = [text for text in flags["after"] if not _is_whole(text)]
    tasks, is_batch = spec.from_flags(flags | {"after": [text for text in flags["after"] if _is_whole(text)]})
    with open_for_tasks(hub, token_file, data_dir) as client:
        if short:
            whole = [task_id(client, text) for text in flags["after"]]
            tasks, is_batch = spec.from_flags(flags | {"after": whole})
        stored = _submit(client, tasks, is_batch=is_batch)
    if not (wait or follow):
        _tell_ids(stored, is_batch=is_batch, as_json=as_json)
        return endings.DONE
    ids = [task.id for task in stored.tasks]
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    click.echo(f"submitted {', '.join(ids[:_NAMED])}{more}", err=True)
    is_followed = follow and len(ids) == 1
    views = asyncio.run(
        _wait(
            ids,
            {"hub": hub, "token_file": token_file, "data_dir": data_dir},
            is_followed=is_followed,
            show_output=not as_json,
        )
    )
    _tell(views, is_batch=is_batch, as_json=as_json, show_output=not is_followed)
    return endings.DONE if all(map(story.is_good, views)) else endings.WORK_FAILED


def _is_whole(text: str) -> bool:
    from protocol.ids import TASK_ID

    return bool(TASK_ID.fullmatch(text))


def _submit(client: "TaskClient", tasks: "list[TaskSpec]", *, is_batch: bool) -> "Submitted":
    from protocol.api import Submitted

    return client.submit_many(tasks) if is_batch else Submitted(tasks=(client.submit(tasks[0]),))


def _tell_ids(stored: "Submitted", *, is_batch: bool, as_json: bool) -> None:
    if as_json:
        output.say_json(stored if is_batch else stored.tasks[0])
        return
    for task in stored.tasks:
        click.echo(task.id)  # ids alone are data: `id=$(agentcom submit ...)` works
    if sys.stderr.isatty() and not is_batch:
        task = stored.tasks[0]
        click.echo(f"{task.state.value}; see it with: agentcom tasks show {task.id}", err=True)


async def _wait(
    tasks: list[str], place: dict[str, str | None], *, is_followed: bool, show_output: bool
) -> "list[TaskView]":
    from agentcom.aio import AsyncClient
    from agentcom.cli import watch

    hub, token_file, data_dir = (place[name] for name in ("hub", "token_file", "data_dir"))
    async with AsyncClient(hub, token_file=token_file, data_dir=data_dir, patience_s=PATIENCE_S) as client:
        if is_followed:
            return [await watch.follow(client, tasks[0], show_output=show_output)]
        return await watch.wait_all(client, tasks)


def _tell(views: "list[TaskView]", *, is_batch: bool, as_json: bool, show_output: bool) -> None:
    if as_json:
        output.say_json({"tasks": views} if is_batch else views[0])
    elif is_batch:
        rows = [(v.id, v.state.value, output.verdict(v.verified), v.agent or "", v.title or v.reason) for v in views]
        output.table(("id", "state", "result", "agent", "title"), rows)
    else:
        story.tell(views[0], show_output=show_output)

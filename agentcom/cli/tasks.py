"""``agentcom tasks``: list, look at, explain, cancel, review and retry tasks; hold them up, and let them go on."""

import functools
from typing import TYPE_CHECKING, Any

import click

from agentcom.cli import artifacts, endings, holding, output, replaying
from agentcom.cli.connection import HubCommand, NounGroup, connected_for_tasks, task_id
from protocol.errors import BadInput, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentcom.blocking_tasks import TaskClient
    from protocol.api import TaskSummary, TaskView

_PAGE = 500
_SHOWN_CHARS = 60
_TAIL = 20


@click.group(name="tasks", cls=NounGroup)
def command() -> None:
    """List, look at, pause, cancel, review and retry tasks. Without a verb: ls.

    TASK is the id of a task, or at least 4 characters from its end.
    """


@command.command(name="ls", cls=HubCommand)
@click.option("--state", "states", multiple=True, metavar="S", help="Only tasks in this state, repeatable.")
@click.option("--agent", metavar="NAME", help="Only tasks of this agent.")
@click.option("--label", metavar="K=V", help="Only tasks with this label.")
@click.option("--priority", "priorities", multiple=True, metavar="P", help="Only tasks of this priority, repeatable.")
@click.option("--tier", "tiers", multiple=True, metavar="T", help="Only tasks that count as this, repeatable.")
@click.option("--model", metavar="MODEL", help="Only tasks that this model did, does or is asked to do.")
@click.option("--find", metavar="WORDS", help="Only tasks with these words in the title.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, metavar="N", help="At most N tasks."
)
@click.option("--cursor", metavar="C", help="Go on from the next_cursor of a page before.")
@connected_for_tasks
def ls(
    hub: "TaskClient",
    as_json: bool,  # noqa: FBT001 - click calls it
    label: str | None,
    find: str | None,
    limit: int,
    cursor: str | None,
    **given: Any,
) -> None:
    """List tasks, newest first."""
    for name, several in (("priority", "priorities"), ("tier", "tiers")):
        given[name] = ",".join(given.pop(several))
    ask = functools.partial(hub.task_page, label=_label(label), q=find, **given)
    page = ask(limit=min(limit, _PAGE), cursor=cursor)
    tasks = list(page.tasks)
    while page.next_cursor and len(tasks) < limit:
        page = ask(limit=min(limit - len(tasks), _PAGE), cursor=page.next_cursor)
        tasks += page.tasks
    if as_json:
        output.say_json({"tasks": tasks, "next_cursor": page.next_cursor})
        return
    rows = [_row(task) for task in tasks]
    empty = "no tasks; submit one with: agentcom submit --shell 'echo hello' --wait"
    output.table(("id", "state", "result", "priority", "agent", "age", "title", "reason"), rows, empty=empty)
    if page.next_cursor:
        click.echo(f"There are more: --cursor {page.next_cursor}, or --limit", err=True)


def _label(text: str | None) -> str | None:
    if text is None:
        return None
    key, equals, value = text.partition("=")
    if not equals:
        raise BadInput([Problem("--label", f"expected key=value, found {text[:60]!r}")], "command")
    return f"{key}:{value}"


def _row(task: "TaskSummary") -> tuple[str, ...]:
    result = "" if task.ended_at is None or task.execution_ok is None else output.verdict(task.verified)
    return (
        task.id,
        task.state.value,
        result,
        task.priority,
        task.agent or "",
        output.age(task.submitted_at),
        _short(task.title),
        _short(task.reason),
    )


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 3]}..."


@command.command(name="show", cls=HubCommand)
@click.argument("task")
@connected_for_tasks
def show(hub: "TaskClient", as_json: bool, task: str) -> None:  # noqa: FBT001 - click calls it
    """Show one task: state, attempts, findings, cost, output."""
    from agentcom.cli import story

    found = hub.task(task_id(hub, task))
    if as_json:
        output.say_json(found)
    else:
        story.tell(found)


@command.command(name="logs", cls=HubCommand)
@click.argument("task", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on until the task is final; of all tasks: until Ctrl-C.")
@click.option("--agent", default="", metavar="NAME", help="Of all tasks: only output of this agent.")
@click.option("--find", default="", metavar="WORDS", help="Of all tasks: only output with these words.")
@connected_for_tasks
def logs(
    hub: "TaskClient",
    as_json: bool,  # noqa: FBT001 - click calls it
    task: str | None,
    follow: bool,  # noqa: FBT001 - as above
    agent: str,
    find: str,
) -> None:
    """Print the output of a task, all attempts, oldest first.

    With --follow and no TASK: what all tasks write from now on. With --json every piece is one line.
    """
    if task is None and not follow:
        raise click.UsageError("Missing argument 'TASK'; all tasks are only followed: --follow")
    if task is not None and (agent or find):
        raise click.UsageError("--agent and --find are for the output of all tasks: leave out TASK")
    if task is None:
        _follow_all(hub, agent, find, as_json=as_json)
        return
    for piece in hub.logs(task_id(hub, task), follow=follow):
        if as_json:
            output.say_line_of_json(piece)
        else:
            click.echo(output.harmless(piece.text), nl=False, err=piece.stream == "stderr")


def _follow_all(hub: "TaskClient", agent: str, find: str, *, as_json: bool) -> None:
    for piece in hub.output(agent=agent, q=find, tail=_TAIL):
        if as_json:
            output.say_line_of_json(piece)
            continue
        whose = output.printable(f"{piece.agent} {_short(piece.title) or piece.task}: ")
        for line in piece.text.splitlines():
            click.echo(whose + output.harmless(line), err=piece.stream == "stderr")


@command.command(name="explain", cls=HubCommand)
@click.argument("task")
@connected_for_tasks
def explain(hub: "TaskClient", as_json: bool, task: str) -> None:  # noqa: FBT001 - click calls it
    """Say why a task stands where it stands, agent by agent.

    Also what would move it, and which ways to do it were weighed.
    """
    from agentcom.cli import story

    found = hub.explain(task_id(hub, task))
    if as_json:
        output.say_json(found)
        return
    click.echo(output.printable(story.standing(found)))
    if found.position is not None:
        click.echo(story.place_words(found))
    for way_out in found.unblock:
        click.echo(f"  -> {output.printable(way_out)}")
    rows = [(a.agent, a.state.value, a.host, story.agent_words(a)) for a in found.agents]
    if rows:
        output.table(("agent", "state", "host", "why"), rows)
    click.echo(f"tier: {output.printable(story.tier_words(found.routing.tier))}")
    if rung := story.rung_words(found.routing.rung):
        click.echo(output.printable(rung))
    for line in story.estimate_lines(found.routing.learnt):
        click.echo(output.printable(line))
    if found.routing.reason:
        click.echo(f"routing: {output.printable(found.routing.reason)}")
    for way in found.routing.candidates:
        click.echo(f"  {output.printable(story.way_line(way))}")


@command.command(name="cancel", cls=HubCommand)
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@click.option("--reason", default="", metavar="TEXT", help="Why, for whoever looks later.")
@connected_for_tasks
def cancel(hub: "TaskClient", as_json: bool, tasks: tuple[str, ...], reason: str) -> int:  # noqa: FBT001 - click calls it
    """Cancel tasks; what runs is stopped."""
    wanted = [task_id(hub, task) for task in tasks]  # all are known before the first is cancelled
    return _tell_states(as_json, (hub.cancel(task, reason) for task in wanted))


@command.command(name="approve", cls=HubCommand)
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@click.option("--reason", default="", metavar="TEXT", help="Why, for whoever looks later.")
@connected_for_tasks
def approve(hub: "TaskClient", as_json: bool, tasks: tuple[str, ...], reason: str) -> int:  # noqa: FBT001 - click calls it
    """Let work count that waits for a person."""
    views = [hub.task(task_id(hub, task)) for task in tasks]  # what is approved is what is seen now
    return _tell_states(as_json, (hub.approve(view.id, reason, epoch=view.epoch) for view in views))


@command.command(name="reject", cls=HubCommand)
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@click.option("--reason", default="", metavar="TEXT", help="What is wrong with it.")
@click.option("--again", is_flag=True, help="Send it back with the reason instead of failing it.")
@connected_for_tasks
def reject(hub: "TaskClient", as_json: bool, tasks: tuple[str, ...], reason: str, again: bool) -> int:  # noqa: FBT001 - click calls it
    """Fail work that waits for a person, or send it back."""
    views = [hub.task(task_id(hub, task)) for task in tasks]
    return _tell_states(as_json, (hub.reject(view.id, reason, again=again, epoch=view.epoch) for view in views))


def _tell_states(as_json: bool, views: "Iterable[TaskView]") -> int:  # noqa: FBT001 - the flag of the command
    for view in views:
        if as_json:
            output.say_line_of_json(view)
        else:
            click.echo(f"{view.id} is {view.state.value}")
    return endings.DONE


command.add_command(replaying.replay)
command.add_command(holding.pause)
command.add_command(holding.resume)
command.add_command(holding.take)
command.add_command(holding.hand_back)


@command.command(name="retry", cls=HubCommand)
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@connected_for_tasks
def retry(hub: "TaskClient", as_json: bool, tasks: tuple[str, ...]) -> int:  # noqa: FBT001 - click calls it
    """Run dead tasks again: those whose retries are spent."""
    wanted = [task_id(hub, task) for task in tasks]
    return _tell_states(as_json, map(hub.retry, wanted))


command.add_command(artifacts.ls, name="artifacts")  # whoever looks at a task looks for its files here

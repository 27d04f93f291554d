"""``agentcom tasks replay``: the life of a task from its log, and its routing decided again."""

from typing import TYPE_CHECKING

import click

from agentcom.cli import endings, output
from agentcom.cli.connection import HubCommand, connected_for_tasks, task_id
from protocol.replay import Replay, ReplayStep, ReplayVerdict

if TYPE_CHECKING:
    from agentcom.blocking_tasks import TaskClient


@click.command(name="replay", cls=HubCommand)
@click.argument("task")
@connected_for_tasks
def replay(hub: "TaskClient", as_json: bool, task: str) -> int:  # noqa: FBT001 - click calls it
    """Show a task's life from the log, and decide its routing again."""
    found = hub.replay(task_id(hub, task))
    if as_json:
        output.say_json(found)
    else:
        _tell(found)
    return endings.WORK_FAILED if found.verdict is ReplayVerdict.DIFFERENT else endings.DONE


def _tell(found: Replay) -> None:
    rows = []
    for step in found.steps:
        after = (step.at - found.steps[0].at).total_seconds()
        rows.append((f"+{after:.3f} s", step.kind, "" if step.state is None else step.state.value, _about(step)))
    output.table(("after", "what", "then", "about"), rows, empty="its events were forgotten")
    for decision in found.decisions:
        how = f"{decision.ways} ways weighed again" if decision.ways else "its agent was one of equals"
        click.echo(
            f"attempt {decision.epoch}: {'same' if decision.same else 'DIFFERENT'}: {output.printable(decision.now)}"
            f" ({how})"
        )
    for difference in found.differences:
        click.echo(f"- {output.printable(difference)}")
    click.echo(f"{found.verdict.value}: the task is {found.state.value}")


def _about(step: ReplayStep) -> str:
    words = [f"attempt {step.epoch}"] if step.epoch else []
    words += [f"on {step.agent}"] if step.agent else []
    words += [f"{name}={value}" for name, value in step.facts.items() if not isinstance(value, dict | list)]
    return " ".join(words)[:200]

"""Wait for tasks at a prompt: live output on stdout, what happens on stderr.

While a task stays in the queue, the reason is told once: a person who waits wants to know what for.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import aclosing
from typing import Any

import click

from agentcom.aio import AsyncClient
from agentcom.cli import output
from protocol.api import EventView, TaskView
from protocol.errors import AgentComError
from protocol.events import EventKind
from protocol.model import TaskState

QUIET_QUEUE_S = 3.0
_CHECK_STREAM = "check"  # where sidecars tell each finding in a line
_WORDS = {
    EventKind.TASK_BLOCKED: "waits for the tasks it depends on",
    EventKind.TASK_QUEUED: "queued",
    EventKind.TASK_STARTED: "started",
    EventKind.TASK_REQUEUED: "back in the queue",
    EventKind.TASK_WAITING: "waits for a person",
    EventKind.ATTEMPT_LOST: "the attempt was lost",
    EventKind.ATTEMPT_REJECTED: "the agent did not take it",
}


async def wait_all(client: AsyncClient, tasks: Sequence[str]) -> list[TaskView]:
    """The tasks once each is final or waits for a person; on the way, why one stays in the queue."""
    return list(await asyncio.gather(*(_with_reason(client, task, client.wait(task)) for task in tasks)))


async def follow(client: AsyncClient, task: str, *, show_output: bool) -> TaskView:
    """The task once it is final or waits for a person; its output as it comes, state changes and findings on stderr."""

    async def both() -> TaskView:
        async with asyncio.TaskGroup() as group:
            shown = [group.create_task(_show_events(client, task))]
            if show_output:
                shown.append(group.create_task(_show_output(client, task)))
            view = await client.wait(task)
            if view.state is TaskState.WAITING:  # nothing more comes by itself
                for each in shown:
                    each.cancel()
        return view

    try:
        return await _with_reason(client, task, both())
    except ExceptionGroup as group:
        # Both streams fail of one cause: a hub that is gone, a token that ended.
        expected = group.subgroup(AgentComError)
        if expected is None or expected.exceptions != group.exceptions:
            raise
        raise group.exceptions[0] from None


async def _with_reason(client: AsyncClient, task: str, waiting: Awaitable[TaskView]) -> TaskView:
    done = asyncio.ensure_future(waiting)
    try:
        await asyncio.wait({done}, timeout=QUIET_QUEUE_S)
        if not done.done():
            await _say_why(client, task)
        return await done
    finally:
        done.cancel()


async def _say_why(client: AsyncClient, task: str) -> None:
    found = await client.explain(task)
    if found.state not in {TaskState.QUEUED, TaskState.BLOCKED}:
        return
    _say(task, f"still {found.state.value}: {found.summary}")
    for way_out in found.unblock:
        _say(task, f"  {way_out}")


async def _show_output(client: AsyncClient, task: str) -> None:
    async with aclosing(client.logs(task, follow=True)) as pieces:
        async for piece in pieces:
            if piece.stream == _CHECK_STREAM:
                for line in piece.text.splitlines():
                    _say(task, f"  {line}")
            else:
                click.echo(output.harmless(piece.text), nl=False)


async def _show_events(client: AsyncClient, task: str) -> None:
    async with aclosing(client.events(task=task, follow=True)) as events:
        async for event in events:
            _say(task, _words(event))


def _words(event: EventView) -> str:
    facts = event.facts
    reason = f": {facts['reason']}" if facts.get("reason") else ""
    if event.kind == EventKind.TASK_ASSIGNED:
        return f"assigned to {event.agent} on {facts.get('host', '')} (attempt {event.epoch})"
    if event.kind in {EventKind.TASK_VERIFYING, EventKind.TASK_ITERATION}:
        what = "is checked" if event.kind == EventKind.TASK_VERIFYING else "begins"
        detail = f": {facts['detail']}" if facts.get("detail") else ""
        return f"iteration {facts.get('iteration', '')} {what}{detail}"
    if event.kind == EventKind.TASK_ANSWERING:
        return str(facts.get("detail", ""))
    if event.kind == EventKind.TOOL_CALLED:
        return _calls(facts)
    known = _WORDS.get(EventKind(event.kind)) if event.kind in set(EventKind) else None
    return f"{known or event.kind.removeprefix('task_')}{reason}"


def _calls(facts: dict[str, Any]) -> str:
    done = [
        f"{call['tool']} {call['target']}".strip() + ("" if call["ok"] else " (failed)")
        for call in facts.get("calls", ())
    ]
    more = [f"{facts['more']} more calls"] if facts.get("more") else []
    return f"turn {facts.get('turn', '')}: {'; '.join([*done, *more])}"


def _say(task: str, text: str) -> None:
    click.echo(output.printable(f"[{task[-6:]}] {text}"), err=True)

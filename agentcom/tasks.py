"""What the client asks about tasks: a part of :class:`agentcom.aio.AsyncClient`."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from urllib.parse import quote
from uuid import uuid4

import msgspec
from msgspec import Struct

from agentcom.asking import Asking
from agentcom.calls import STREAM_PATIENCE_S
from agentcom.files import Files, TaskRef
from agentcom.holding import HoldCalls
from agentcom.live import LIVE, Tables, apply
from agentcom.reviews import ReviewCalls
from protocol.api import (
    PREFIX,
    CancelBody,
    EventList,
    EventView,
    Explanation,
    LogList,
    LogPiece,
    OutputPiece,
    Submitted,
    TaskList,
    TaskSummary,
    TaskView,
)
from protocol.errors import BadInput, Problem
from protocol.model import FINAL_STATES, TaskSpec, TaskState
from protocol.replay import Replay

S = TypeVar("S")
_LOOK_S: Final = 5.0
"""Someone who waits also looks by itself this often: a lost event costs time, never the result."""
_SHOWN_FRAMES: Final = ("", "message")
RESET: Final = "cursor_reset"
"""Kind of an event that no hub has: there is a gap before what comes next."""


class TaskCalls(Files, ReviewCalls, HoldCalls, Asking):
    """Submit, list, look at, wait for and end tasks; what they write, and what happens."""

    async def submit(
        self, task: TaskSpec | Mapping[str, Any] | None = None, *, key: str | None = None, **fields: Any
    ) -> TaskSummary:
        """Submit one task; answers when it is stored for good.

        Args:
            task, fields: the task, as one value or field by field: ``submit(prompt="...", save_as="hello.txt")``.
            key: an idempotency key; one is made if it is left out, so repeating a lost request never doubles the task.
        Raises:
            BadInput: everything that is wrong with the task; nothing was sent, or nothing was stored.
            TypeError: both a task and fields are given, or neither.
        """
        spec = _spec(_one_of(task, fields))
        return await self._post_tasks(spec, TaskSummary, key)

    async def submit_many(self, tasks: Sequence[TaskSpec | Mapping[str, Any]], *, key: str | None = None) -> Submitted:
        """Submit up to 1,000 tasks, all or none; see :meth:`submit`."""
        from protocol import schema  # a command that starts does without it

        problems: list[Problem] = []
        specs: list[TaskSpec] = []
        for number, task in enumerate(tasks):
            spec, found = schema.read_spec(_plain(task), f"tasks[{number}]")
            problems.extend(found)
            if spec is not None:
                specs.append(spec)
        if problems:
            raise BadInput(problems, "batch")
        return await self._post_tasks({"tasks": specs}, Submitted, key)

    async def _post_tasks(self, body: object, shape: type[S], key: str | None) -> S:
        headers = {"Idempotency-Key": key or uuid4().hex}
        return await self._transport.call(
            "POST", f"{PREFIX}/tasks", shape, body=body, headers=headers, is_repeatable=True
        )

    async def task(self, task: TaskRef) -> TaskView:
        """One task, whole.

        Raises:
            NotFound: there is none with this id.
        """
        return await self._get(f"/tasks/{_id(task)}", TaskView)

    async def task_page(
        self,
        *,
        states: Sequence[str] = (),
        agent: str | None = None,
        label: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        **more: str | None,
    ) -> TaskList:
        """A page of tasks, newest first; ``label`` is ``key:value``.

        ``more``: other filters of the API (``priority`` and ``tier``, several by comma; ``model``; ``q``, words of the
        title).
        """
        query = {"state": ",".join(states), "agent": agent, "label": label, "limit": limit, "cursor": cursor}
        return await self._get("/tasks", TaskList, query | more)

    async def tasks(
        self, *, states: Sequence[str] = (), agent: str | None = None, label: str | None = None
    ) -> AsyncGenerator[TaskSummary, None]:
        """All tasks, newest first, fetched page by page."""
        cursor: str | None = None
        while True:
            page = await self.task_page(states=states, agent=agent, label=label, limit=200, cursor=cursor)
            for task in page.tasks:
                yield task
            cursor = page.next_cursor
            if cursor is None:
                return

    async def wait(self, task: TaskRef, timeout_s: float | None = None) -> TaskView:
        """The task once it is final or waits for a person. Lives through a restart of the hub.

        Raises:
            TimeoutError: it is not final after ``timeout_s``.
            NotFound: there is none with this id.
            HubUnreachable: the hub was away for more than a minute.
        """
        import asyncio  # a command that starts does without it

        async with asyncio.timeout(timeout_s):
            while True:
                view = await self._get(f"/tasks/{_id(task)}", TaskView, patience_s=STREAM_PATIENCE_S)
                if view.state in FINAL_STATES or view.state is TaskState.WAITING:
                    return view
                ending = asyncio.ensure_future(self._until_end(task))
                try:
                    await asyncio.wait({ending}, timeout=_LOOK_S)
                finally:
                    ending.cancel()
                    # Its error, if any, is for the next look to find: a stream is only a wake-up.
                    await asyncio.gather(ending, return_exceptions=True)

    async def _until_end(self, task: TaskRef) -> None:
        async with aclosing(self._transport.follow(f"{PREFIX}/tasks/{_id(task)}/events")) as frames:
            async for _ in frames:
                pass

    async def logs(self, task: TaskRef, *, follow: bool = False, after: int = 0) -> AsyncGenerator[LogPiece, None]:
        """Pieces of a task's output, oldest first; with ``follow`` until the task is final."""
        path = f"{PREFIX}/tasks/{_id(task)}/logs"
        if follow:
            async with aclosing(self._transport.follow(path, after=after)) as frames:
                async for frame in frames:
                    if frame.name in _SHOWN_FRAMES:
                        yield msgspec.json.decode(frame.data, type=LogPiece)
            return
        cursor: str | None = str(after)
        while cursor is not None:
            page = await self._transport.call("GET", path, LogList, query={"cursor": cursor})
            for piece in page.logs:
                yield piece
            cursor = page.next_cursor

    async def output(
        self, *, agent: str = "", label: str = "", q: str = "", tail: int = 0
    ) -> AsyncGenerator[OutputPiece, None]:
        """Output of all tasks as it comes, for ever; what a slow reader has missed is left out.

        Args:
            agent, label, q: only of this agent, of tasks with this ``key:value``, with these words.
            tail: begin with the last so many pieces.
        """
        asked = {"agent": agent, "label": label, "q": q, "tail": str(tail or "")}
        query = {name: value for name, value in asked.items() if value}
        async with aclosing(self._transport.follow(f"{PREFIX}/logs", query=query)) as frames:
            async for frame in frames:
                if frame.name in _SHOWN_FRAMES:
                    yield msgspec.json.decode(frame.data, type=OutputPiece)

    async def events(
        self, *, task: TaskRef | None = None, after: int | None = 0, follow: bool = False, kinds: Sequence[str] = ()
    ) -> AsyncGenerator[EventView, None]:
        """Events, oldest first.

        Args:
            task: only those of one task; then following ends when it is final.
            kinds: only those of these kinds; not together with ``task``.
            after: sequence number behind which to begin; 0: from the first; ``None``: with what happens next.
        Returns:
            Events. One of kind ``cursor_reset`` is none of the hub's: what came before it was forgotten, or the hub was
            restored, so read what you keep from events again. ``facts`` tell ``floor`` and ``newest``.
        """
        path = f"{PREFIX}/tasks/{_id(task)}/events" if task else f"{PREFIX}/events"
        only = {"kind": ",".join(kinds)} if kinds else {}
        if follow:
            async with aclosing(self._transport.follow(path, query=only, after=after)) as frames:
                async for frame in frames:
                    if frame.name in _SHOWN_FRAMES:
                        yield msgspec.json.decode(frame.data, type=EventView)
                    elif frame.name == "reset":
                        gap = msgspec.json.decode(frame.data, type=_Gap)
                        yield _reset(frame.seq or gap.floor, gap.floor, gap.newest)
            return
        cursor: str | None = str(after or 0)
        while cursor is not None:
            page = await self._transport.call("GET", path, EventList, query={"cursor": cursor, **only})
            if page.reset:
                yield _reset(max(int(cursor), page.floor), page.floor, page.newest)
            for event in page.events:
                yield event
            cursor = page.next_cursor

    async def live(self) -> AsyncGenerator[Tables, None]:
        """What the dashboard shows, whenever it changes: rows by table and key, each time the whole of it."""
        tables: Tables = {}
        async with aclosing(self._transport.follow(LIVE)) as frames:
            async for frame in frames:
                if frame.name in _SHOWN_FRAMES:
                    apply(tables, frame.data)
                if tables:
                    yield {name: dict(rows) for name, rows in tables.items()}

    async def explain(self, task: TaskRef) -> Explanation:
        """Why a task stands where it stands, and what would move it."""
        return await self._get(f"/tasks/{_id(task)}/explain", Explanation)

    async def cancel(self, task: TaskRef, reason: str = "") -> TaskView:
        """Cancel a task.

        Raises:
            Conflict: it is final already.
        """
        return await self._post(f"/tasks/{_id(task)}/cancel", TaskView, CancelBody(reason=reason))

    async def replay(self, task: TaskRef) -> Replay:
        """A task from its log: what happened, and whether it would be routed so again."""
        return await self._get(f"/tasks/{_id(task)}/replay", Replay)


class _Gap(Struct):
    """What a stream says before it goes on behind a gap."""

    floor: int = 0
    newest: int = 0


def _reset(seq: int, floor: int, newest: int) -> EventView:
    facts = {"floor": floor, "newest": newest}
    return EventView(seq=seq, at=datetime.now(UTC), kind=RESET, task=None, agent=None, epoch=None, facts=facts)


def _id(task: TaskRef) -> str:
    return quote(task if isinstance(task, str) else task.id, safe="")


def _one_of(task: TaskSpec | Mapping[str, Any] | None, fields: Mapping[str, Any]) -> TaskSpec | Mapping[str, Any]:
    if task is None and not fields:
        message = "submit() needs a task: a TaskSpec, a mapping, or fields like prompt=..."
        raise TypeError(message)
    if task is None:
        return fields
    if fields:
        message = f"submit() takes a task or fields, not both: {', '.join(fields)} came beside a task"
        raise TypeError(message)
    return task


def _spec(task: TaskSpec | Mapping[str, Any]) -> TaskSpec:
    from protocol import schema  # as above

    spec, problems = schema.read_spec(_plain(task))
    if spec is None:
        raise BadInput(problems, "task")
    return spec


def _plain(task: TaskSpec | Mapping[str, Any]) -> object:
    return msgspec.to_builtins(task) if isinstance(task, TaskSpec) else task

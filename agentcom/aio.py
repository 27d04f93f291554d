"""The asynchronous client: one method a thing that can be asked of a hub.

Values are the shapes of :mod:`protocol.api`, errors the tree of :mod:`protocol.errors`. ``agentcom/client.py`` is the
same for programs without an event loop.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote
from uuid import uuid4

import msgspec
from msgspec import Struct

from agentcom import settings
from agentcom.budgets import BudgetCalls
from agentcom.calls import STREAM_PATIENCE_S, Calls, given
from agentcom.files import Files, TaskRef
from agentcom.holding import HoldCalls
from agentcom.live import LIVE, Tables, apply
from agentcom.projects import ProjectCalls
from agentcom.pulls import PullCalls
from agentcom.reviews import ReviewCalls
from protocol import schema
from protocol.api import (
    PREFIX,
    AgentList,
    AgentView,
    BackupList,
    BackupView,
    CancelBody,
    EventList,
    EventView,
    Explanation,
    Health,
    LogList,
    LogPiece,
    Submitted,
    TaskList,
    TaskSummary,
    TaskView,
    TokenBody,
    TokenCreated,
    TokenList,
)
from protocol.endpoint_views import EndpointBody, EndpointList, EndpointPatch, EndpointView, ModelList
from protocol.errors import BadInput, Problem, Unavailable
from protocol.host_views import HostHistory, HostList
from protocol.model import FINAL_STATES, Role, TaskSpec, TaskState

S = TypeVar("S")
_LOOK_S: Final = 5.0
"""Someone who waits also looks by itself this often: a lost event costs time, never the result."""
_SHOWN_FRAMES: Final = ("", "message")
_BACKUP_S: Final = 3_600.0
RESET: Final = "cursor_reset"
"""Kind of an event that no hub has: there is a gap before what comes next."""


class Ticket(Struct, kw_only=True):
    """A link that logs one browser in to the dashboard, once: ``path`` goes behind the hub's address."""

    ticket: str
    path: str
    expires_at: datetime


class AsyncClient(Files, ProjectCalls, PullCalls, BudgetCalls, ReviewCalls, HoldCalls):
    """A hub, seen from a program with an event loop.

    Args:
        hub: its address, or several, separated by commas, of hubs that share one database; left out: ``AGENTCOM_HUB``,
            the settings file, or the hub of this machine.
        token, token_file: one or the other; left out: ``AGENTCOM_TOKEN``, ``AGENTCOM_TOKEN_FILE``, the settings file or
            the token that the local hub left in its data directory.
        data_dir: data directory of the local hub, if not the usual one.
        patience_s: how long a call is repeated while the hub cannot be reached or asks to wait.
        is_brief: for a few calls: the first one starts sooner, and each has a connection of its own.
    Raises:
        BadInput: the settings are wrong.
    """

    def __init__(
        self,
        hub: str | None = None,
        token: str | None = None,
        *,
        token_file: str | None = None,
        data_dir: str | None = None,
        patience_s: float = 10.0,
        is_brief: bool = False,
    ) -> None:
        found = settings.load({"hub": hub, "token": token, "token_file": token_file, "data_dir": data_dir})
        self._transport = _transport(found.hub, found.token, patience_s, is_brief=is_brief)

    @property
    def url(self) -> str:
        """Address of the hub that is asked now."""
        return self._transport.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all connections."""
        await self._transport.close()

    # --- tasks ----------------------------------------------------------------------------------------------------

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
    ) -> TaskList:
        """A page of tasks, newest first; ``label`` is ``key:value``."""
        query = {"state": ",".join(states), "agent": agent, "label": label, "limit": limit, "cursor": cursor}
        return await self._get("/tasks", TaskList, query)

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

    # --- machines and models --------------------------------------------------------------------------------------

    async def agents(self) -> AgentList:
        """All agents, by name."""
        return await self._get("/agents", AgentList)

    async def agent(self, name: str) -> AgentView:
        """One agent."""
        return await self._get(f"/agents/{quote(name, safe='')}", AgentView)

    async def drain(self, name: str) -> AgentView:
        """Let an agent finish what it has and give it nothing new."""
        return await self._post(f"/agents/{quote(name, safe='')}/drain", AgentView, is_repeatable=True)

    async def resume(self, name: str) -> AgentView:
        """Give a drained agent work again."""
        return await self._post(f"/agents/{quote(name, safe='')}/resume", AgentView, is_repeatable=True)

    async def remove_agent(self, name: str) -> None:
        """Forget an agent that is gone for good.

        Raises:
            Conflict: it is connected, or has work in hand.
        """
        await self._transport.call("DELETE", f"{PREFIX}/agents/{quote(name, safe='')}", type(None))

    async def hosts(self) -> HostList:
        """All machines and their resources."""
        return await self._get("/hosts", HostList)

    async def host_history(self, name: str, span: str = "minute") -> HostHistory:
        """What a machine did in the last ``minute`` or ``hour``."""
        return await self._get(f"/hosts/{quote(name, safe='')}/history?span={quote(span, safe='')}", HostHistory)

    async def endpoints(self) -> EndpointList:
        """All LLM endpoints."""
        return await self._get("/endpoints", EndpointList)

    async def add_endpoint(self, body: EndpointBody) -> EndpointView:
        """Tell the hub of an LLM endpoint; it looks whether it answers."""
        return await self._post("/endpoints", EndpointView, given(body))

    async def change_endpoint(self, endpoint: str, body: EndpointPatch) -> EndpointView:
        """Change an endpoint; what is ``None`` stays."""
        path = f"{PREFIX}/endpoints/{quote(endpoint, safe='')}"
        return await self._transport.call("PATCH", path, EndpointView, body=given(body), is_repeatable=True)

    async def remove_endpoint(self, endpoint: str) -> None:
        """Forget an endpoint."""
        await self._transport.call("DELETE", f"{PREFIX}/endpoints/{quote(endpoint, safe='')}", type(None))

    async def models(self) -> ModelList:
        """All models on all endpoints."""
        return await self._get("/models", ModelList)

    # --- the hub itself -------------------------------------------------------------------------------------------

    async def tokens(self) -> TokenList:
        """All tokens, without their secrets."""
        return await self._get("/tokens", TokenList)

    async def create_token(self, role: Role | str, *, label: str = "", ttl_s: float | None = None) -> TokenCreated:
        """Make a token; its secret is shown only in this answer.

        Raises:
            BadInput: there is no such role.
        """
        body = schema.read({"role": role, "label": label, "ttl_s": ttl_s}, TokenBody, "token")
        return await self._post("/tokens", TokenCreated, body)

    async def revoke_token(self, token: str) -> None:
        """End the token with this id, at once."""
        await self._transport.call("DELETE", f"{PREFIX}/tokens/{quote(token, safe='')}", type(None))

    async def backups(self) -> BackupList:
        """Backups of the hub's store, newest first."""
        return await self._get("/backups", BackupList)

    async def back_up(self) -> BackupView:
        """Make a backup now; answers when it is on the hub's disk and has been looked through.

        Raises:
            Conflict: one is being made, or the store is in PostgreSQL, which makes its own.
        """
        return await self._transport.call("POST", f"{PREFIX}/backups", BackupView, call_s=_BACKUP_S)

    async def health(self) -> Health:
        """The hub's own view of itself."""
        return await self._get("/health", Health)

    async def session_ticket(self) -> Ticket:
        """A link that opens the dashboard in a browser, once."""
        return await self._post("/session-tickets", Ticket)

    async def is_ready(self) -> bool:
        """Whether work can be submitted now; asks once (needs no token)."""
        try:
            await self._transport.call("GET", "/readyz", dict, patience_s=0.0)
        except Unavailable:
            return False
        return True

    async def server_date(self) -> str:
        """The hub's clock as its ``Date`` header tells it (needs no token); empty if it does not."""
        return await self._transport.server_date()

    async def _get(
        self, path: str, shape: type[S], query: Mapping[str, Any] | None = None, *, patience_s: float | None = None
    ) -> S:
        asked = {name: str(value) for name, value in (query or {}).items() if value not in (None, "")}
        return await self._transport.call(
            "GET", PREFIX + path, shape, query=asked, is_repeatable=True, patience_s=patience_s
        )

    async def _post(self, path: str, shape: type[S], body: object = None, *, is_repeatable: bool = False) -> S:
        return await self._transport.call("POST", PREFIX + path, shape, body=body, is_repeatable=is_repeatable)


def _transport(url: str, token: str, patience_s: float, *, is_brief: bool) -> Calls:
    # Imported here, because a command that starts is waiting for it.
    if is_brief:
        from agentcom.brief import BriefTransport

        return BriefTransport(url, token, patience_s=patience_s)
    from agentcom.transport import Transport

    return Transport(url, token, patience_s=patience_s)


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
    spec, problems = schema.read_spec(_plain(task))
    if spec is None:
        raise BadInput(problems, "task")
    return spec


def _plain(task: TaskSpec | Mapping[str, Any]) -> object:
    return msgspec.to_builtins(task) if isinstance(task, TaskSpec) else task

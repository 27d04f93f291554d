"""The client for programs without an event loop: every method of :class:`agentcom.aio.AsyncClient`, blocking.

The calls run on an event loop in a thread of their own, so this works in a script, in a notebook and inside a program
that has a running loop. Shapes, errors and arguments are those of the asynchronous client.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from agentcom.aio import AsyncClient, Ticket
from agentcom.files import TaskRef
from agentcom.live import Tables
from protocol.api import (
    AgentList,
    AgentView,
    ArtifactList,
    ArtifactView,
    BackupList,
    BackupView,
    EventView,
    Explanation,
    Health,
    LogPiece,
    Submitted,
    TaskList,
    TaskSummary,
    TaskView,
    TokenCreated,
    TokenList,
)
from protocol.budgets import BudgetBody, BudgetList, BudgetView
from protocol.endpoint_views import EndpointBody, EndpointList, EndpointPatch, EndpointView, ModelList
from protocol.host_views import HostHistory, HostList
from protocol.model import Role, TaskSpec
from protocol.projects import (
    CommitView,
    FileList,
    FileView,
    FileWritten,
    ProjectBody,
    ProjectList,
    ProjectPatch,
    ProjectView,
    PushView,
    RepositoryView,
)
from protocol.pulls import PullList, PullState, PullView

T = TypeVar("T")


class Client:
    """A hub, seen from a program; close it, or use it in a ``with`` block.

    Args:
        hub, token, token_file, data_dir, patience_s, is_brief: as for :class:`agentcom.aio.AsyncClient`.
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
        self._client = AsyncClient(
            hub, token, token_file=token_file, data_dir=data_dir, patience_s=patience_s, is_brief=is_brief
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="agentcom-client", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Address of the hub that is asked now."""
        return self._client.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all connections; closing twice does nothing."""
        if self._loop.is_closed():
            return
        self._run(self._client.close())
        self._run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C reaches this thread, not the loop: what runs there must not go on alone.
            future.cancel()
            raise

    def _each(self, stream: AsyncGenerator[T, None]) -> Iterator[T]:
        async def step() -> tuple[T, ...]:
            try:
                return (await anext(stream),)
            except StopAsyncIteration:
                return ()

        try:
            while found := self._run(step()):
                yield found[0]
        finally:
            if not self._loop.is_closed():
                self._run(stream.aclose())

    # --- tasks ----------------------------------------------------------------------------------------------------

    def submit(
        self, task: TaskSpec | Mapping[str, Any] | None = None, *, key: str | None = None, **fields: Any
    ) -> TaskSummary:
        """Submit one task, as one value or field by field; answers when it is stored for good."""
        return self._run(self._client.submit(task, key=key, **fields))

    def submit_many(self, tasks: Sequence[TaskSpec | Mapping[str, Any]], *, key: str | None = None) -> Submitted:
        """Submit up to 1,000 tasks, all or none."""
        return self._run(self._client.submit_many(tasks, key=key))

    def task(self, task: TaskRef) -> TaskView:
        """One task, whole."""
        return self._run(self._client.task(task))

    def task_page(
        self,
        *,
        states: Sequence[str] = (),
        agent: str | None = None,
        label: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> TaskList:
        """A page of tasks, newest first."""
        return self._run(self._client.task_page(states=states, agent=agent, label=label, limit=limit, cursor=cursor))

    def tasks(
        self, *, states: Sequence[str] = (), agent: str | None = None, label: str | None = None
    ) -> Iterator[TaskSummary]:
        """All tasks, newest first, fetched page by page."""
        return self._each(self._client.tasks(states=states, agent=agent, label=label))

    def wait(self, task: TaskRef, timeout_s: float | None = None) -> TaskView:
        """The task once it is final or waits for a person."""
        return self._run(self._client.wait(task, timeout_s))

    def logs(self, task: TaskRef, *, follow: bool = False, after: int = 0) -> Iterator[LogPiece]:
        """Pieces of a task's output, oldest first; with ``follow`` until the task is final."""
        return self._each(self._client.logs(task, follow=follow, after=after))

    def events(
        self, *, task: TaskRef | None = None, after: int | None = 0, follow: bool = False, kinds: Sequence[str] = ()
    ) -> Iterator[EventView]:
        """Events, oldest first; with ``follow`` also those to come."""
        return self._each(self._client.events(task=task, after=after, follow=follow, kinds=kinds))

    def live(self) -> Iterator[Tables]:
        """What the dashboard shows, whenever it changes; without end."""
        return self._each(self._client.live())

    def explain(self, task: TaskRef) -> Explanation:
        """Why a task stands where it stands, and what would move it."""
        return self._run(self._client.explain(task))

    def cancel(self, task: TaskRef, reason: str = "") -> TaskView:
        """Cancel a task."""
        return self._run(self._client.cancel(task, reason))

    def retry(self, task: TaskRef) -> TaskView:
        """Run a dead task again."""
        return self._run(self._client.retry(task))

    def approve(self, task: TaskRef, reason: str = "", *, epoch: int | None = None) -> TaskView:
        """Let work count that waits for a person."""
        return self._run(self._client.approve(task, reason, epoch=epoch))

    def reject(self, task: TaskRef, reason: str = "", *, again: bool = False, epoch: int | None = None) -> TaskView:
        """Fail work that waits for a person; ``again``: send it back with the reason."""
        return self._run(self._client.reject(task, reason, again=again, epoch=epoch))

    def pause(self, task: TaskRef, reason: str = "") -> TaskView:
        """Have a task stop at the end of its turn, and wait."""
        return self._run(self._client.pause(task, reason))

    def resume_task(self, task: TaskRef) -> TaskView:
        """Let a paused task go on."""
        return self._run(self._client.resume_task(task))

    def take(self, task: TaskRef, reason: str = "") -> TaskView:
        """Take a task over from its agent."""
        return self._run(self._client.take(task, reason))

    def hand_back(self, task: TaskRef, note: str = "") -> TaskView:
        """Let a task go on that a person had taken over; the note goes into what the model is told next."""
        return self._run(self._client.hand_back(task, note))

    def reclaim(self, agent: str) -> AgentView:
        """Take the GPU of an agent's machine back."""
        return self._run(self._client.reclaim(agent))

    def give_back(self, agent: str) -> AgentView:
        """Give the GPU of an agent's machine to work again."""
        return self._run(self._client.give_back(agent))

    def artifacts(self, task: TaskRef) -> ArtifactList:
        """Files that the attempts of a task have left."""
        return self._run(self._client.artifacts(task))

    def download(self, artifact: ArtifactView, target: Path) -> Path:
        """Fetch a file to ``target``, whole and right or not at all."""
        return self._run(self._client.download(artifact, target))

    # --- machines and models --------------------------------------------------------------------------------------

    def agents(self) -> AgentList:
        """All agents, by name."""
        return self._run(self._client.agents())

    def agent(self, name: str) -> AgentView:
        """One agent."""
        return self._run(self._client.agent(name))

    def drain(self, name: str) -> AgentView:
        """Let an agent finish what it has and give it nothing new."""
        return self._run(self._client.drain(name))

    def resume(self, name: str) -> AgentView:
        """Give a drained agent work again."""
        return self._run(self._client.resume(name))

    def remove_agent(self, name: str) -> None:
        """Forget an agent that is gone for good."""
        self._run(self._client.remove_agent(name))

    def hosts(self) -> HostList:
        """All machines and their resources."""
        return self._run(self._client.hosts())

    def host_history(self, name: str, span: str = "minute") -> HostHistory:
        """What a machine did in the last ``minute`` or ``hour``."""
        return self._run(self._client.host_history(name, span))

    def endpoints(self) -> EndpointList:
        """All LLM endpoints."""
        return self._run(self._client.endpoints())

    def add_endpoint(self, body: EndpointBody) -> EndpointView:
        """Tell the hub of an LLM endpoint."""
        return self._run(self._client.add_endpoint(body))

    def change_endpoint(self, endpoint: str, body: EndpointPatch) -> EndpointView:
        """Change an endpoint; what is ``None`` stays."""
        return self._run(self._client.change_endpoint(endpoint, body))

    def remove_endpoint(self, endpoint: str) -> None:
        """Forget an endpoint."""
        self._run(self._client.remove_endpoint(endpoint))

    def models(self) -> ModelList:
        """All models on all endpoints."""
        return self._run(self._client.models())

    # --- projects -------------------------------------------------------------------------------------------------

    def projects(self) -> ProjectList:
        """All projects."""
        return self._run(self._client.projects())

    def project(self, name: str) -> ProjectView:
        """One project."""
        return self._run(self._client.project(name))

    def add_project(self, project: ProjectBody | Mapping[str, Any]) -> ProjectView:
        """Register a repository or a directory; nothing is cloned yet."""
        return self._run(self._client.add_project(project))

    def change_project(self, name: str, patch: ProjectPatch) -> ProjectView:
        """Change a project; what is ``None`` stays."""
        return self._run(self._client.change_project(name, patch))

    def remove_project(self, name: str, *, force: bool = False) -> None:
        """Forget a project and remove the hub's clone; ``force``: also with work in it that is nowhere else."""
        self._run(self._client.remove_project(name, force=force))

    # --- files ----------------------------------------------------------------------------------------------------

    def files(self, project: str, path: str = "", *, limit: int = 1_000, cursor: str = "") -> FileList:
        """A page of what a directory of a project holds."""
        return self._run(self._client.files(project, path, limit=limit, cursor=cursor))

    def read_file(self, project: str, path: str) -> FileView:
        """A file of a project, of at most 8 MiB."""
        return self._run(self._client.read_file(project, path))

    def write_file(self, project: str, path: str, content: bytes) -> FileWritten:
        """Write a file of a project, whole."""
        return self._run(self._client.write_file(project, path, content))

    def delete_file(self, project: str, path: str) -> None:
        """Remove a file or an empty directory of a project."""
        self._run(self._client.delete_file(project, path))

    # --- git ------------------------------------------------------------------------------------------------------

    def clone(self, project: str) -> RepositoryView:
        """Make the hub's clone, or fetch what is new; what is checked out stays."""
        return self._run(self._client.clone(project))

    def repository(self, project: str) -> RepositoryView:
        """How the repository of a project stands."""
        return self._run(self._client.repository(project))

    def branch(self, project: str, name: str, start: str = "") -> RepositoryView:
        """Make a branch."""
        return self._run(self._client.branch(project, name, start))

    def checkout(self, project: str, branch: str) -> RepositoryView:
        """Check a branch out."""
        return self._run(self._client.checkout(project, branch))

    def add_files(self, project: str, paths: Sequence[str] = ()) -> RepositoryView:
        """Put the changes of these files (none: of all) into the next commit."""
        return self._run(self._client.add_files(project, paths))

    def commit(self, project: str, message: str, author: str = "") -> CommitView:
        """Commit what was added."""
        return self._run(self._client.commit(project, message, author))

    def push(self, project: str, branch: str = "") -> PushView:
        """Push a branch (empty: what is checked out) to where the project comes from."""
        return self._run(self._client.push(project, branch))

    # --- pull requests --------------------------------------------------------------------------------------------

    def pulls(self, *, state: PullState | str = "", project: str = "", cursor: str = "", limit: int = 100) -> PullList:
        """A page of pull requests, those of the newest tasks first."""
        return self._run(self._client.pulls(state=state, project=project, cursor=cursor, limit=limit))

    def pull(self, task: TaskRef) -> PullView:
        """The pull request of a task."""
        return self._run(self._client.pull(task))

    def approve_pull(self, task: TaskRef) -> PullView:
        """Let a draft go on."""
        return self._run(self._client.approve_pull(task))

    def retry_pull(self, task: TaskRef) -> PullView:
        """Have tried now what was refused, or is to be tried later."""
        return self._run(self._client.retry_pull(task))

    # --- budgets --------------------------------------------------------------------------------------------------

    def budgets(self) -> BudgetList:
        """All budgets, and how they stand today."""
        return self._run(self._client.budgets())

    def budget(self, budget: str) -> BudgetView:
        """One budget: ``hub``, ``submitter:TOKEN_ID`` or ``project:NAME``."""
        return self._run(self._client.budget(budget))

    def set_budget(self, budget: str, body: BudgetBody) -> BudgetView:
        """Set a budget, new or changed; what is ``None`` has no limit."""
        return self._run(self._client.set_budget(budget, body))

    def remove_budget(self, budget: str) -> None:
        """Forget a budget."""
        self._run(self._client.remove_budget(budget))

    # --- the hub itself -------------------------------------------------------------------------------------------

    def tokens(self) -> TokenList:
        """All tokens, without their secrets."""
        return self._run(self._client.tokens())

    def create_token(self, role: Role | str, *, label: str = "", ttl_s: float | None = None) -> TokenCreated:
        """Make a token; its secret is shown only in this answer."""
        return self._run(self._client.create_token(role, label=label, ttl_s=ttl_s))

    def revoke_token(self, token: str) -> None:
        """End the token with this id, at once."""
        self._run(self._client.revoke_token(token))

    def backups(self) -> BackupList:
        """Backups of the hub's store, newest first."""
        return self._run(self._client.backups())

    def back_up(self) -> BackupView:
        """Make a backup now; answers when it is on the hub's disk and has been looked through."""
        return self._run(self._client.back_up())

    def health(self) -> Health:
        """The hub's own view of itself."""
        return self._run(self._client.health())

    def session_ticket(self) -> Ticket:
        """A link that opens the dashboard in a browser, once."""
        return self._run(self._client.session_ticket())

    def is_ready(self) -> bool:
        """Whether work can be submitted now; asks once."""
        return self._run(self._client.is_ready())

    def server_date(self) -> str:
        """The hub's clock as its ``Date`` header tells it."""
        return self._run(self._client.server_date())

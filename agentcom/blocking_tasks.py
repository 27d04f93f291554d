"""What the blocking client asks about tasks, and one that asks nothing else; see :class:`agentcom.client.Client`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from agentcom.blocking import Blocking
from agentcom.files import TaskRef
from agentcom.live import Tables
from agentcom.tasks import TaskCalls
from protocol.api import (
    AgentView,
    ArtifactList,
    ArtifactView,
    EventView,
    Explanation,
    LogPiece,
    OutputPiece,
    Submitted,
    TaskList,
    TaskSummary,
    TaskView,
)
from protocol.model import TaskSpec
from protocol.replay import Replay

if TYPE_CHECKING:
    from agentcom.aio import AsyncClient
    from agentcom.calls import Calls


class BlockingTasks(Blocking):
    """Submit, list, look at, wait for and end tasks; what they write, and what happens."""

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
        **more: str | None,
    ) -> TaskList:
        """A page of tasks, newest first."""
        asked = self._client.task_page(states=states, agent=agent, label=label, limit=limit, cursor=cursor, **more)
        return self._run(asked)

    def tasks(
        self, *, states: Sequence[str] = (), agent: str | None = None, label: str | None = None
    ) -> Iterator[TaskSummary]:
        """All tasks, newest first, fetched page by page."""
        return self._each(self._client.tasks(states=states, agent=agent, label=label))

    def wait(self, task: TaskRef, timeout_s: float | None = None) -> TaskView:
        """The task once it is final or waits for a person."""
        return self._run(self._staying.wait(task, timeout_s))

    def logs(self, task: TaskRef, *, follow: bool = False, after: int = 0) -> Iterator[LogPiece]:
        """Pieces of a task's output, oldest first; with ``follow`` until the task is final."""
        client = self._staying if follow else self._client
        return self._each(client.logs(task, follow=follow, after=after))

    def output(self, *, agent: str = "", label: str = "", q: str = "", tail: int = 0) -> Iterator[OutputPiece]:
        """Output of all tasks as it comes, for ever, after the last ``tail`` pieces."""
        return self._each(self._staying.output(agent=agent, label=label, q=q, tail=tail))

    def events(
        self, *, task: TaskRef | None = None, after: int | None = 0, follow: bool = False, kinds: Sequence[str] = ()
    ) -> Iterator[EventView]:
        """Events, oldest first; with ``follow`` also those to come."""
        client = self._staying if follow else self._client
        return self._each(client.events(task=task, after=after, follow=follow, kinds=kinds))

    def live(self) -> Iterator[Tables]:
        """What the dashboard shows, whenever it changes; without end."""
        return self._each(self._staying.live())

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
        return self._run(self._staying.download(artifact, target))

    def replay(self, task: TaskRef) -> Replay:
        """A task from its log: what happened, and whether it would be routed so again."""
        return self._run(self._client.replay(task))


class TaskClient(BlockingTasks):
    """A client for what can be asked about tasks, without the rest, which takes longer to import."""

    @staticmethod
    def _asking(way: "Calls") -> "AsyncClient":
        return cast("AsyncClient", TaskCalls.over(way))  # of which nothing here asks for more

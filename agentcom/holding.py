"""What the client asks about tasks that people hold up: a part of :class:`agentcom.aio.AsyncClient`."""

from urllib.parse import quote

from agentcom.calls import Calls
from agentcom.files import TaskRef
from protocol.api import PREFIX, AgentView, TaskView
from protocol.progress import HandBackBody, PauseBody


class HoldCalls:
    """Run again, pause and resume, take over and hand back; take a GPU back and give it again."""

    _transport: Calls

    async def retry(self, task: TaskRef) -> TaskView:
        """Run a dead task again: one whose retries are spent.

        Raises:
            Conflict: it is not dead.
        """
        return await self._hold(task, "retry", None)

    async def pause(self, task: TaskRef, reason: str = "") -> TaskView:
        """Have a task stop at the end of its turn, and wait.

        Raises:
            Conflict: it cannot stop and go on later.
        """
        return await self._hold(task, "pause", PauseBody(reason=reason))

    async def resume_task(self, task: TaskRef) -> TaskView:
        """Let a paused task go on."""
        return await self._hold(task, "resume", None)

    async def take(self, task: TaskRef, reason: str = "") -> TaskView:
        """Take a task over from its agent: it stops at the end of its turn, and waits.

        Raises:
            Conflict: it cannot stop and go on later.
        """
        return await self._hold(task, "take", PauseBody(reason=reason))

    async def hand_back(self, task: TaskRef, note: str = "") -> TaskView:
        """Let a task go on that a person had taken over; the note goes into what the model is told next."""
        return await self._hold(task, "hand-back", HandBackBody(note=note))

    async def reclaim(self, agent: str) -> AgentView:
        """Take the GPU of an agent's machine back: work of models there stops, and none is placed there."""
        return await self._of_agent(agent, "reclaim")

    async def give_back(self, agent: str) -> AgentView:
        """Give the GPU of an agent's machine to work again."""
        return await self._of_agent(agent, "give-back")

    async def _hold(self, task: TaskRef, verb: str, body: PauseBody | HandBackBody | None) -> TaskView:
        name = task if isinstance(task, str) else task.id
        path = f"{PREFIX}/tasks/{quote(name, safe='')}/{verb}"
        return await self._transport.call("POST", path, TaskView, body=body, is_repeatable=verb != "retry")

    async def _of_agent(self, agent: str, verb: str) -> AgentView:
        path = f"{PREFIX}/agents/{quote(agent, safe='')}/{verb}"
        return await self._transport.call("POST", path, AgentView, is_repeatable=True)

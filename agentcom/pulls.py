"""What the client says about pull requests: a part of :class:`agentcom.aio.AsyncClient`."""

from agentcom.calls import Calls
from protocol.api import PREFIX, TaskSummary
from protocol.pulls import PullList, PullState, PullView


class PullCalls:
    """List, approve, retry."""

    _transport: Calls

    async def pulls(
        self, *, state: PullState | str = "", project: str = "", cursor: str = "", limit: int = 100
    ) -> PullList:
        """A page of pull requests, those of the newest tasks first."""
        asked = {"state": str(state), "project": project, "cursor": cursor, "limit": str(limit)}
        query = {name: value for name, value in asked.items() if value}
        return await self._transport.call("GET", f"{PREFIX}/pulls", PullList, query=query, is_repeatable=True)

    async def pull(self, task: str | TaskSummary) -> PullView:
        """The pull request of a task.

        Raises:
            NotFound: it has none.
        """
        return await self._transport.call("GET", _one(task), PullView, is_repeatable=True)

    async def approve_pull(self, task: str | TaskSummary) -> PullView:
        """Let a draft go on.

        Raises:
            Conflict: it is none.
        """
        return await self._transport.call("POST", f"{_one(task)}/approve", PullView)

    async def retry_pull(self, task: str | TaskSummary) -> PullView:
        """Have tried now what was refused, or is to be tried later.

        Raises:
            Conflict: it is over.
        """
        return await self._transport.call("POST", f"{_one(task)}/retry", PullView)


def _one(task: str | TaskSummary) -> str:
    return f"{PREFIX}/pulls/{task if isinstance(task, str) else task.id}"

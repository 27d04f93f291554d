"""What the client says about work that waits for a person: a part of :class:`agentcom.aio.AsyncClient`."""

from typing import Any

from agentcom.calls import Calls
from protocol.api import PREFIX, TaskSummary, TaskView
from protocol.reviews import ApproveBody, RejectBody


class ReviewCalls:
    """Approve and reject."""

    _transport: Calls

    async def approve(self, task: str | TaskSummary, reason: str = "", *, epoch: int | None = None) -> TaskView:
        """Let work count that waits for a person; with ``epoch`` only if that attempt still does.

        Raises:
            Conflict: it does not wait, or another attempt does.
        """
        return await self._review(task, "approve", ApproveBody(reason=reason, epoch=epoch))

    async def reject(
        self, task: str | TaskSummary, reason: str = "", *, again: bool = False, epoch: int | None = None
    ) -> TaskView:
        """Fail work that waits for a person; ``again``: send it back with the reason.

        Raises:
            Conflict: it does not wait, or another attempt does.
        """
        return await self._review(task, "reject", RejectBody(reason=reason, epoch=epoch, again=again))

    async def _review(self, task: str | TaskSummary, verb: str, body: Any) -> TaskView:  # noqa: ANN401 - either body
        name = task if isinstance(task, str) else task.id
        return await self._transport.call("POST", f"{PREFIX}/tasks/{name}/{verb}", TaskView, body=body)

"""Brings what an attempt has made to where it belongs: commits on its branch, pushed, and the files that are kept.

What was brought stands in :attr:`Delivery.done`, field by field of the result. The caller is ``sidecar/rounds.py``.
"""

from collections.abc import Callable
from typing import Any

import structlog

from protocol.errors import WorkFailed
from protocol.limits import MAX_DIFF_BYTES
from protocol.model import AttemptId, TaskSpec
from sidecar.core.outcome import commit_message, draft_message, head
from sidecar.errors import WorkUnreadable
from sidecar.keep import Depot, keep_files
from sidecar.workspace import Workspace, Workspaces

log = structlog.get_logger(__name__)


class Delivery:
    """What one attempt delivers.

    Attributes:
        done: what was brought, field by field of the result.
        on_push: is called before its branch is pushed, which then is named in what was brought.
    """

    def __init__(self, workspaces: Workspaces, depot: Depot | None, attempt: AttemptId, spec: TaskSpec) -> None:
        self._workspaces, self._depot, self._attempt, self._spec = workspaces, depot, attempt, spec
        self.done: dict[str, Any] = {}
        self.on_push: Callable[[], None] = lambda: None

    async def files(
        self, workspace: Workspace, *, say: Callable[[str], None], allow_s: Callable[[float], None], must: bool
    ) -> None:
        """Bring the files that the task wants kept; see :func:`sidecar.keep.keep_files`."""
        if self._depot is not None:
            self.done["artifacts"] = await keep_files(
                self._depot, self._attempt, self._spec, workspace, say=say, allow_s=allow_s, must=must
            )

    async def work(self, workspace: Workspace, model: str) -> None:
        """Commit the work, and push it where it came from. Work that changed nothing has no branch to show.

        Raises:
            WorkUnreadable: part of it is in a repository of its own.
            WorkFailed: it cannot be done.
        """
        if self._spec.context.repo and (alone := await self._workspaces.strangers(workspace)):
            raise WorkUnreadable("a repository of its own would not be delivered; remove its .git", alone[0])
        await self._commit(workspace, commit_message(self._spec, self._attempt, model))

    async def draft(self, workspace: Workspace, model: str) -> None:
        """Put the work so far on the attempt's branch. What cannot be kept is only missing: the report stands."""
        try:
            await self._commit(workspace, draft_message(self._spec, self._attempt, model))
        except WorkFailed as exc:
            log.warning("draft_not_kept", task=self._attempt.task, epoch=self._attempt.epoch, why=str(exc))

    async def _commit(self, workspace: Workspace, message: str) -> None:
        commit = await self._workspaces.commit(workspace, message, self._attempt.sidecar)
        if commit:
            self.done |= {"branch": workspace.branch, "commit": commit, "diff": await self._diff(workspace, commit)}
            if self._spec.context.repo:
                self.on_push()
                self.done["pushed"] = await self._workspaces.push(workspace)

    async def _diff(self, workspace: Workspace, commit: str) -> str:
        """What people will see of the work. What cannot be shown is only missing: the branch has it."""
        try:
            return head(await self._workspaces.diff(workspace, commit), MAX_DIFF_BYTES)
        except WorkFailed as exc:
            log.warning("diff_not_shown", task=self._attempt.task, epoch=self._attempt.epoch, why=str(exc))
            return ""

"""Have the checks of a task run on what an attempt has done, out of reach of what it has done.

Every check gets a home that the work has never seen; what has changed is looked at from a place that the work cannot
write to. All of it is in one folder beside the attempt's own, and gone afterwards. The caller is ``sidecar/rounds.py``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import structlog
from msgspec.structs import replace

from protocol.checks import Check
from protocol.errors import WorkFailed
from protocol.model import Finding
from protocol.removal import remove_tree
from sidecar.baseline import Baselines
from sidecar.cache import stand_alone
from sidecar.changes import changes_of, history_of, marks_of
from sidecar.checks.base import Ask, Ground
from sidecar.core.diff import Change
from sidecar.errors import GitFailed, shown
from sidecar.sandbox.cell import Cell, Level, Sandbox
from sidecar.spans import span
from sidecar.verifier import verify
from sidecar.workspace import Workspace, Workspaces

_T = TypeVar("_T")

log = structlog.get_logger(__name__)


class Proof:
    """Runs checks; the same for all attempts of a sidecar. What was learnt of base commits is kept here."""

    def __init__(
        self, workspaces: Workspaces, sandbox: Sandbox, plugins: Mapping[str, Sequence[str]] = MappingProxyType({})
    ) -> None:
        self._workspaces, self._sandbox, self._plugins = workspaces, sandbox, plugins
        self._baselines = Baselines(workspaces, sandbox)

    async def findings(
        self,
        checks: Sequence[Check],
        workspace: Workspace,
        room: Path,
        *,
        timeout_s: float,
        log: Callable[[str, str], None],
        task: str = "",
        ask: Ask | None = None,
    ) -> tuple[Finding, ...]:
        """What the checks find, in their order. What runs of the attempt is ended before each, and before we look.

        Args:
            checks: of the task.
            workspace: what the work has left.
            room: a folder of ours that the programs of the attempt do not see; gone afterwards.
            timeout_s: for all checks together.
            log: takes live output (stream, text).
            task: what the work was to do.
            ask: asks another model than those that have done it.
        """
        numbers = count(1)

        def fresh() -> Cell:
            place = workspace.place(room / f"check-{next(numbers)}")
            stand_alone(workspace.git_dir)
            return self._sandbox.cell(workspace.attempt, place)

        try:
            first = fresh()
            if first.level is not Level.NONE:
                workspace.eyes = self._sandbox.cell(workspace.attempt, workspace.look(room / "sight"))
            ground = Ground(
                cell=first,
                timeout_s=timeout_s,
                log=log,
                uncommitted=partial(_alone, first, partial(self._workspaces.uncommitted, workspace)),
                changes=partial(_alone, first, partial(changes_of, self._workspaces, workspace)),
                marks=partial(_alone, first, partial(marks_of, self._workspaces, workspace)),
                history=partial(_alone, first, partial(history_of, self._workspaces, workspace)),
                before=partial(_alone, first, partial(self._baselines.before, workspace, room)),
                covered_before=partial(_alone, first, partial(self._baselines.covered, workspace, room)),
                has_base=bool(workspace.base_commit),
                plugins=self._plugins,
                task=task,
                ask=ask,
            )
            with span("verify", {"agentcom.checks": len(checks)}) as facts:
                found = await verify(checks, ground, fresh)
                facts["agentcom.verified"] = all(each.passed for each in found)
            return await self._whole(workspace, first, found) if workspace.has_repo else found
        finally:
            await asyncio.to_thread(remove_tree, room)
            await asyncio.to_thread(remove_tree, workspace.sight_dir)

    async def _whole(self, workspace: Workspace, cell: Cell, found: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """What the checks found, if they have seen what would be delivered, and nothing more."""
        try:
            strangers = await _alone(cell, partial(self._workspaces.strangers, workspace))
        except WorkFailed as exc:
            why = str(exc)
        else:
            if not strangers:
                return found
            why = f"{shown(strangers[0])} is a repository of its own: its files were checked and would not be delivered"
        return tuple(replace(each, passed=False, detail=why) if each.passed else each for each in found)

    async def changes(self, workspace: Workspace, room: Path) -> tuple[Change, ...]:
        """What the work has changed since its base, line by line; nothing if git cannot tell.

        What runs of the attempt is ended before. Nothing is decided by this: it is for whoever goes on with the work.

        Args:
            workspace: what the work has left.
            room: a folder of ours that the programs of the attempt do not see; gone afterwards.
        """
        cell = self._sandbox.cell(workspace.attempt, workspace.place(room / "none"))
        try:
            if cell.level is not Level.NONE:
                workspace.eyes = self._sandbox.cell(workspace.attempt, workspace.look(room / "sight"))
            return await _alone(cell, partial(changes_of, self._workspaces, workspace))
        except GitFailed as exc:
            log.warning("changes_unknown", task=workspace.attempt.task, epoch=workspace.attempt.epoch, why=str(exc))
            return ()
        finally:
            await asyncio.to_thread(remove_tree, room)
            await asyncio.to_thread(remove_tree, workspace.sight_dir)


async def _alone(cell: Cell, look: Callable[..., Awaitable[_T]], *arguments: Any) -> _T:
    """What the host sees when nothing of the attempt runs: not even what a check has left in the background."""
    await cell.clear()
    return await look(*arguments)

"""Run a test command at the commit that the work began from, so that old failures are told from new ones.

The files of that commit are laid out beside the workspace, without a repository, and are gone when the command has
ended. What it said is kept for other attempts from the same commit. Its caller is :mod:`sidecar.proof`.
"""

import asyncio
import tarfile
from collections import OrderedDict
from pathlib import Path
from secrets import token_hex
from typing import Final

import structlog

from protocol.errors import WorkFailed
from sidecar.checks.base import env_of
from sidecar.core.tallies import Tally, tally
from sidecar.errors import CannotStart
from sidecar.folders import remove_tree
from sidecar.sandbox.cell import Sandbox
from sidecar.sandbox.policy import Place
from sidecar.workspace import Workspace, Workspaces

log = structlog.get_logger(__name__)

MOST_KEPT: Final = 500
"""Commands and commits whose tests are remembered."""
MAX_SAID_BYTES: Final = 1 << 20


class Baselines:
    """What test commands said before the work, by repository, commit and command."""

    def __init__(self, workspaces: Workspaces, sandbox: Sandbox) -> None:
        self._workspaces, self._sandbox = workspaces, sandbox
        self._known: OrderedDict[tuple[str, str, str], Tally | float | None] = OrderedDict()
        """A number: it had not ended after so many seconds."""

    async def before(self, workspace: Workspace, room: Path, command: str, timeout_s: float) -> Tally | None:
        """What ``command`` says about its tests at the base of ``workspace``.

        Returns:
            ``None`` without a repository, if it cannot be run there, or if it says nothing that is understood: then
            nothing is compared.
        Raises:
            TimeoutError: it takes longer; how much longer, nobody knows.
        """
        if not workspace.base_commit:
            return None
        key = workspace.address, workspace.base_commit, command
        known = self._known.get(key)
        if isinstance(known, float) and timeout_s <= known:
            raise TimeoutError(f"the tests take longer than {known:g} s")
        if key not in self._known or isinstance(known, float):
            try:
                # A room that the work has never seen: what it has put into its own home says nothing about the base.
                known = self._known[key] = await self._run(workspace, room / f"base-{token_hex(8)}", command, timeout_s)
            except TimeoutError:  # it is an OSError, too
                self._known[key] = timeout_s
                raise
            except (WorkFailed, CannotStart, OSError, tarfile.TarError) as exc:
                log.info("no_baseline", commit=workspace.base_commit, command=command[:200], why=str(exc))
                return None
        self._known.move_to_end(key)
        while len(self._known) > MOST_KEPT:
            self._known.popitem(last=False)
        return known

    async def _run(self, workspace: Workspace, folder: Path, command: str, timeout_s: float) -> Tally | None:
        try:
            async with asyncio.timeout(timeout_s):
                archive = folder.with_suffix(".tar")
                await self._workspaces.archive(workspace, archive)
                await asyncio.to_thread(_unpack, archive, folder / "tree")
                cell = self._sandbox.cell(workspace.attempt, Place(folder / "tree", folder))
                env = env_of(cell)
                outcome = await cell.run(command, env=env, timeout_s=timeout_s, max_output_bytes=MAX_SAID_BYTES)
        finally:
            await asyncio.to_thread(remove_tree, folder)
        if outcome.timed_out:
            raise TimeoutError(f"the tests take longer than {timeout_s:g} s")
        return await asyncio.to_thread(tally, outcome.output)


def _unpack(archive: Path, folder: Path) -> None:
    """Links that lead out of the folder, devices and the like are refused: the commit is somebody's."""
    folder.mkdir(parents=True)
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    archive.unlink()

"""Run a test command at the commit that the work began from, so that old failures are told from new ones.

The files of that commit are laid out beside the workspace, without a repository, and are gone when the command has
ended. What it said is kept for other attempts from the same commit. Its caller is :mod:`sidecar.proof`.
"""

import asyncio
import shutil
import tarfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, Generic, TypeVar, cast

import structlog

from protocol.errors import WorkFailed
from protocol.removal import remove_tree
from sidecar.checks.base import env_of
from sidecar.checks.coverage import coverage_of
from sidecar.core.coverage import Coverage
from sidecar.core.tallies import Tally, tally
from sidecar.errors import CannotStart
from sidecar.sandbox.cell import Sandbox
from sidecar.sandbox.policy import Place
from sidecar.workspace import Workspace, Workspaces

log = structlog.get_logger(__name__)

MOST_KEPT: Final = 500
"""Commands and commits whose tests are remembered."""
MAX_SAID_BYTES: Final = 1 << 20
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Asked(Generic[_T]):
    """A command, and what of it is wanted: ``read`` is given what it said and the folder where it ran."""

    command: str
    kind: str
    read: Callable[[str, Path], _T]


class Baselines:
    """What test commands said and measured before the work, by repository, commit and command."""

    def __init__(self, workspaces: Workspaces, sandbox: Sandbox) -> None:
        self._workspaces, self._sandbox = workspaces, sandbox
        self._known: OrderedDict[tuple[str, str, str, str], Any] = OrderedDict()

    async def before(self, workspace: Workspace, room: Path, command: str, timeout_s: float) -> Tally | None:
        """What ``command`` says about its tests at the base of ``workspace``.

        Returns:
            ``None`` without a repository, if it cannot be run there, or if it says nothing that is understood: then
            nothing is compared.
        Raises:
            TimeoutError: it takes longer; how much longer, nobody knows.
        """
        asked = _Asked(command, "tests", lambda output, _tree: tally(output))
        return await self._at_base(workspace, room, asked, timeout_s)

    async def covered(
        self, workspace: Workspace, room: Path, command: str, report: str, timeout_s: float
    ) -> Coverage | None:
        """How much of the code ``command`` runs at the base, by ``report`` or, without one, by what it says.

        Returns and raises: as :meth:`before`.
        """
        asked = _Asked(command, f"coverage {report}", lambda output, tree: coverage_of(tree, report, output))
        return await self._at_base(workspace, room, asked, timeout_s)

    async def _at_base(self, workspace: Workspace, room: Path, asked: _Asked[_T], timeout_s: float) -> _T | None:
        if not workspace.base_commit:
            return None
        key = workspace.address, workspace.base_commit, asked.command, asked.kind
        known = self._known.get(key)
        if isinstance(known, _Cut) and timeout_s <= known.after_s:
            raise TimeoutError(f"it takes longer than {known.after_s:g} s")
        if key not in self._known or isinstance(known, _Cut):
            try:
                # A room that the work has never seen: what it has put into its own home says nothing about the base.
                known = self._known[key] = await self._run(workspace, room / f"base-{token_hex(8)}", asked, timeout_s)
            except TimeoutError:  # it is an OSError, too
                self._known[key] = _Cut(timeout_s)
                raise
            except (WorkFailed, CannotStart, OSError, tarfile.TarError) as exc:
                log.info("no_baseline", commit=workspace.base_commit, command=asked.command[:200], why=str(exc))
                return None
        self._known.move_to_end(key)
        while len(self._known) > MOST_KEPT:
            self._known.popitem(last=False)
        return cast("_T | None", known)

    async def _run(self, workspace: Workspace, folder: Path, asked: _Asked[_T], timeout_s: float) -> _T:
        try:
            async with asyncio.timeout(timeout_s):
                archive = folder.with_suffix(".tar")
                await self._workspaces.archive(workspace, archive)
                await asyncio.to_thread(_unpack, archive, folder / "tree")
                cell = self._sandbox.cell(workspace.attempt, Place(folder / "tree", folder))
                env = env_of(cell)
                outcome = await cell.run(asked.command, env=env, timeout_s=timeout_s, max_output_bytes=MAX_SAID_BYTES)
            if outcome.timed_out:
                raise TimeoutError(f"it takes longer than {timeout_s:g} s")
            return await asyncio.to_thread(asked.read, outcome.output, folder / "tree")
        finally:
            await asyncio.to_thread(remove_tree, folder)


@dataclass(frozen=True, slots=True)
class _Cut:
    """It had not ended after so many seconds."""

    after_s: float


def _unpack(archive: Path, folder: Path) -> None:
    """Links that lead out of the folder, devices and the like are refused: the commit is somebody's.

    The filters of ``tarfile`` are missing in Python 3.11.2, which Debian 12 has. Links come last, so nothing is ever
    written through one.

    Raises:
        tarfile.TarError, OSError: the archive holds what is refused, or cannot be read.
    """
    folder.mkdir(parents=True)
    root, links = folder.resolve(), list[tuple[Path, str]]()
    with tarfile.open(archive) as opened:
        for member in opened:
            place = _within(root, root / member.name)
            if member.isdir():
                place.mkdir(parents=True, exist_ok=True)
            elif member.issym():
                links.append((place, member.linkname))
            elif member.isreg() and (source := opened.extractfile(member)) is not None:
                place.parent.mkdir(parents=True, exist_ok=True)
                with source, place.open("xb") as target:
                    shutil.copyfileobj(source, target)
                place.chmod(0o755 if member.mode & 0o100 else 0o644)
            else:
                raise tarfile.TarError(f"neither a file nor a link: {member.name[:200]}")
    for place, to in links:
        _within(root, place.parent.resolve() / to)
        _within(root, place.parent.resolve()).mkdir(parents=True, exist_ok=True)
        place.symlink_to(to)
    archive.unlink()


def _within(root: Path, place: Path) -> Path:
    if not place.resolve().is_relative_to(root):
        raise tarfile.TarError(f"it leads out of the folder: {str(place)[:200]}")
    return place

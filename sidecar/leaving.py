"""Give the place of an attempt back, and sweep up what was left by sidecars that died.

What the work has committed and nobody else has is taken into the cache first. The caller is ``sidecar/workspace.py``.
"""

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Final

import structlog

from protocol.model import AttemptId
from protocol.removal import remove_tree
from sidecar.cache import tidy
from sidecar.errors import GitFailed
from sidecar.folders import claim, is_young, size_bytes
from sidecar.sites import NAME, Sites, name_of
from sidecar.workplace import Workspace

log = structlog.get_logger(__name__)

KEPT_S: Final = 7 * 24 * 3600.0
"""How long a working directory that was kept on purpose survives the sweeps."""
_ENDS: Final = frozenset({".lock", ".kept", ".git", ".cache", ".sight"})


class Leaving(Sites):
    """How attempts leave their places.

    Attributes:
        most_bytes: what an attempt may leave in the cache that is nowhere else.
    """

    most_bytes = 1 << 30

    async def _is_much(self, git_dir: Path) -> bool:
        """Whether an attempt has made more than it may leave in the cache."""
        return await asyncio.to_thread(size_bytes, git_dir / "objects", self.most_bytes) > self.most_bytes

    def keep(self, workspace: Workspace) -> None:
        """Have sweeps spare a working directory for ``KEPT_S``, also one whose sidecar dies before it is closed."""
        self._kept(name_of(workspace.attempt)).touch(mode=0o600)

    async def close(self, workspace: Workspace, *, keep: bool) -> None:
        """Remove the working directory, unless ``keep``; then it stays for ``KEPT_S`` at least.

        The branch stays in the cache if it has commits that were not pushed. Call it after the work's processes ended.
        """
        name = name_of(workspace.attempt)
        try:
            if keep:
                self.keep(workspace)
                log.info("workspace_kept", path=str(workspace.path), days=KEPT_S / 86_400)
                return
            if not await asyncio.to_thread(remove_tree, workspace.path):
                log.warning("workspace_left", path=str(workspace.path), next="removed at the next start")
            if workspace.cache is not None and not await self._keep_commits(workspace, workspace.cache):
                self._kept(name).touch(mode=0o600)
                log.warning("commits_kept", path=str(workspace.git_dir), days=KEPT_S / 86_400, why="they are large")
                return
            await asyncio.to_thread(remove_tree, workspace.git_dir)
            self._cache_of(name).unlink(missing_ok=True)
        finally:
            self._release(name, workspace.claim)

    async def _keep_commits(self, workspace: Workspace, cache: Path) -> bool:
        """Take into the cache what is nowhere else: the branch, and under ``salvage/`` what it is not on.

        ``False``: it is more than an attempt may leave there, and lies where it was.
        """
        await self._restore(workspace)
        ref, name = f"refs/heads/{workspace.branch}", name_of(workspace.attempt)
        commit = await self._resolve(workspace, ref)
        known = {workspace.base_commit, workspace.pushed_commit} - {""}
        is_too_much = await self._is_much(workspace.git_dir)
        async with self._caches.held(cache):
            if is_too_much and not await self._caches.has_all(cache, workspace.attempt, workspace.git_dir, known):
                return False
            if commit and commit not in known:
                await self._caches.take(cache, workspace.attempt, workspace.git_dir, f"+{ref}:{ref}")
                log.info("branch_kept", branch=workspace.branch, commit=commit, cache=str(cache))
            elif there := await self._caches.commit_of(cache, workspace.attempt, ref):
                await self._caches.run(cache, workspace.attempt, "update-ref", "-d", ref, there)
            await self._caches.salvage(cache, workspace.attempt, workspace.git_dir, name, known)
        return True

    async def sweep(self, held: Collection[AttemptId]) -> int:
        """Remove what earlier runs of this sidecar left: working directories of attempts that are no longer held.

        What another sidecar on this root works on is spared, and so is what was kept on purpose lately, or is not ours
        by name. Commits stay in the cache under their branch. Every removal is logged.

        Args:
            held: attempts that the journal still has.
        Returns:
            Number of working directories removed.
        """
        spared = {name_of(attempt) for attempt in held}
        removed = 0
        for path in sorted([*self._alone.iterdir(), *self._work.iterdir()]):  # "alone" is before "work", with its marks
            name = path.stem if path.suffix in _ENDS else path.name
            if name in spared or is_young(self._kept(name), KEPT_S):
                continue
            if not NAME.fullmatch(name):
                log.warning("workspace_unknown", path=str(path), next="left alone")
                continue
            fd = claim(self._lock_of(name))
            if fd is None:
                continue
            if path.suffix == ".kept" or (path.suffix == ".cache" and not path.with_suffix(".git").exists()):
                path.unlink()
            elif path.suffix not in {".lock", ".cache"}:
                if path.suffix == ".git":
                    if not await self._salvage(path, name):
                        self._release(name, fd)
                        continue
                    self._cache_of(name).unlink(missing_ok=True)
                gone = await asyncio.to_thread(remove_tree, path)
                removed += gone and path.parent == self._work
                log.info("workspace_swept", path=str(path), removed=gone)
            self._release(name, fd)
        return removed

    async def _salvage(self, git_dir: Path, name: str) -> bool:
        """Take into the cache what an attempt has left whose sidecar died. What cannot be read is lost, and told.

        ``False``: it is more than an attempt may leave there, and stays where it is for ``KEPT_S``.
        """
        try:
            cache = Path(self._cache_of(name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return True  # a task without a repository: its files are all there is
        task, _, epoch = name.rpartition("-e")
        attempt = AttemptId("sweep", 0, task, int(epoch))
        try:
            await asyncio.to_thread(tidy, git_dir, cache)
            is_too_much = await self._is_much(git_dir)
            async with self._caches.held(cache):
                if is_too_much and not await self._caches.has_all(cache, attempt, git_dir, ()):
                    if self._kept(name).exists():
                        raise GitFailed("fetch", None, f"it holds more than {self.most_bytes >> 20} MiB")
                    self._kept(name).touch(mode=0o600)
                    log.warning("commits_kept", path=str(git_dir), days=KEPT_S / 86_400, why="they are large")
                    return False
                await self._caches.take(cache, attempt, git_dir, "+refs/heads/agentcom/*:refs/heads/agentcom/*")
                await self._caches.salvage(cache, attempt, git_dir, name)
                await self._caches.forget_spare(cache, attempt)  # of work that has made no commit, or none of its own
        except (GitFailed, OSError) as exc:
            log.warning("branch_lost", repository=str(git_dir), why=str(exc))
        return True

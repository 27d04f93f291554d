"""Keeps the caches of repositories small: forgets what the remote has as well, packs them, removes the oldest.

A cache is only touched while nobody holds it and no attempt on this disk names it: attempts read objects in it. It is
only removed if all that its own branches hold is at the remote as well, as far as the last fetch has seen; else it
stays, and that is told. The caller is ``sidecar/app.py``, at the start and every hour.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog

from protocol.model import AttemptId
from sidecar.errors import GitFailed
from sidecar.folders import claim, remove_tree, walk
from sidecar.git import Git

log = structlog.get_logger(__name__)
MANY_PACKS: Final = 20
MANY_OBJECTS: Final = 2_000
"""More packs, or more loose objects, are packed into one."""
_BRANCHES: Final = "refs/heads/"
_WHO: Final = AttemptId("clean", 0, "clean", 0)
_Work = Callable[[Path], Awaitable[bool]]


class Cleaner:
    """The caches of one sidecar.

    Args:
        root: the directory of its workspaces.
        git: runs git on this disk.
        most_bytes: what all caches may take together; 0: any amount.
    """

    def __init__(self, root: Path, git: Git, most_bytes: int) -> None:
        self._caches, self._alone, self._git, self._most_bytes = root / "cache", root / "alone", git, most_bytes

    async def clean(self) -> int:
        """Pack what needs it, and remove the least recently used ones until the others fit; how many were removed."""
        sizes: dict[Path, int] = {}
        for cache in await asyncio.to_thread(self._by_age):
            await self._alone_with(cache, self._tidy)
            sizes[cache] = await asyncio.to_thread(_size_bytes, cache)
        removed, left_bytes = 0, sum(sizes.values())
        for cache, size_bytes in sizes.items():
            if not self._most_bytes or left_bytes <= self._most_bytes:
                break
            if await self._alone_with(cache, self._remove):
                removed += 1
                left_bytes -= size_bytes
        if self._most_bytes and left_bytes > self._most_bytes:
            log.warning("caches_too_large", mb=left_bytes >> 20, most_mb=self._most_bytes >> 20, next="all are needed")
        return removed

    def _by_age(self) -> list[Path]:
        if not self._caches.is_dir():
            return []
        found = [(path.stat().st_mtime_ns, path) for path in self._caches.iterdir() if path.suffix == ".git"]
        return [path for _, path in sorted(found)]

    async def _alone_with(self, cache: Path, work: _Work) -> bool:
        """Do this to a cache that nobody holds; ``False`` if somebody does, or it could not be done."""
        fd = claim(cache.with_suffix(".lock"))
        if fd is None:
            return False
        try:
            return not await asyncio.to_thread(self._is_named, cache) and await work(cache)
        except (GitFailed, OSError) as exc:
            log.warning("cache_not_cleaned", cache=str(cache), why=str(exc))
            return False
        finally:
            os.close(fd)

    def _is_named(self, cache: Path) -> bool:
        """Whether the repository of an attempt reads this cache, of one that works or was kept."""
        return any(note.read_text(encoding="utf-8") == str(cache) for note in self._alone.glob("*.cache"))

    async def _tidy(self, cache: Path) -> bool:
        for ref in await self._branches(cache):
            if not await self._has_own(cache, ref):
                await self._run(cache, "update-ref", "-d", ref)
                log.info(
                    "branch_forgotten", branch=ref.removeprefix(_BRANCHES), cache=str(cache), why="the remote has it"
                )
        if await asyncio.to_thread(_needs_packing, cache):
            await self._run(cache, "gc", "--quiet", "--prune=now")
        return True

    async def _remove(self, cache: Path) -> bool:
        if own := [ref for ref in await self._branches(cache) if await self._has_own(cache, ref)]:
            log.warning("cache_kept", cache=str(cache), branches=len(own), why="its commits are nowhere else")
            return False
        log.info("cache_removed", cache=str(cache), why="caches may take less")
        return await asyncio.to_thread(remove_tree, cache)

    async def _branches(self, cache: Path) -> list[str]:
        return (await self._run(cache, "for-each-ref", "--format=%(refname)", _BRANCHES)).splitlines()

    async def _has_own(self, cache: Path, ref: str) -> bool:
        """Whether a branch holds commits that were at no branch or tag of the remote when it was last asked."""
        walk = ("rev-list", "--count", "--max-count=1", ref, "--not", "--remotes", "--tags", "--")
        return (await self._run(cache, *walk)).strip() != "0"

    async def _run(self, cache: Path, *arguments: str) -> str:
        return await self._git.run(f"--git-dir={cache}", *arguments, attempt=_WHO, cwd=cache)


def _size_bytes(folder: Path) -> int:
    total = 0
    for _, entries in walk(folder):
        for entry in entries:
            try:
                total += 0 if entry.is_dir(follow_symlinks=False) else entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue
    return total


def _needs_packing(cache: Path) -> bool:
    objects = cache / "objects"
    packs = sum(1 for file in (objects / "pack").glob("*.pack"))
    loose = sum(len(os.listdir(folder)) for folder in objects.iterdir() if len(folder.name) == 2)  # noqa: PLR2004, PTH208 - git's own form
    return packs > MANY_PACKS or loose > MANY_OBJECTS

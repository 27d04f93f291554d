"""Keeps the caches of repositories small: forgets what the remote has as well, packs them, removes the oldest.

A cache is only touched while nobody holds it and no attempt on this disk names it: attempts read objects in it. It is
only removed if all that its own branches hold is at the remote as well, as far as the last fetch has seen; else it
stays, and that is told. What is nowhere else is kept for some weeks, in which a person can fetch it. The caller is
``sidecar/app.py``, at the start and every hour.
"""

import asyncio
import json
import math
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import structlog

from protocol.model import AttemptId
from protocol.removal import remove_tree
from sidecar.errors import GitFailed
from sidecar.folders import claim, size_bytes, write_lasting
from sidecar.git import Git

log = structlog.get_logger(__name__)
SEEN: Final = "agentcom-seen.json"
"""File in a cache that says since when its own branches are there."""
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
        most_days: how long a branch of a cache is kept whose commits are nowhere else; 0: for ever.
        now: Unix time in seconds.
    """

    def __init__(
        self,
        root: Path,
        git: Git,
        most_bytes: int,
        most_days: float = 0.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._caches, self._alone, self._git, self._most_bytes = root / "cache", root / "alone", git, most_bytes
        self._most_days, self._now = most_days, now

    async def clean(self) -> int:
        """Pack what needs it, and remove the least recently used ones until the others fit; how many were removed."""
        sizes: dict[Path, int] = {}
        for cache in await asyncio.to_thread(self._by_age):
            await self._alone_with(cache, self._tidy)
            sizes[cache] = await asyncio.to_thread(size_bytes, cache)
        removed, left_bytes = 0, sum(sizes.values())
        for cache, taken_bytes in sizes.items():
            if not self._most_bytes or left_bytes <= self._most_bytes:
                break
            if await self._alone_with(cache, self._remove):
                removed += 1
                left_bytes -= taken_bytes
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
        own = []
        for ref, commit in await self._branches(cache):
            if await self._has_own(cache, ref):
                own.append((ref, commit))
            else:
                await self._forget(cache, ref, "the remote has it")
        old = await asyncio.to_thread(self._seen_long_ago, cache, own)
        for ref in old:
            await self._forget(cache, ref, f"nobody has fetched it for {self._most_days:g} days")
        is_loose: bool = await asyncio.to_thread(_needs_packing, cache)
        if old or is_loose:
            await self._run(cache, "gc", "--quiet", "--prune=now")
        return True

    async def _forget(self, cache: Path, ref: str, why: str) -> None:
        await self._run(cache, "update-ref", "-d", ref)
        log.info("branch_forgotten", branch=ref.removeprefix(_BRANCHES), cache=str(cache), why=why)

    def _seen_long_ago(self, cache: Path, own: Sequence[tuple[str, str]]) -> list[str]:
        """Of these branches those that were seen so long ago that they go; when commits were made is what work says."""
        now, before = self._now(), _read_seen(cache / SEEN)
        seen = {f"{ref} {commit}": before.get(f"{ref} {commit}", now) for ref, commit in own}
        if seen != before:
            write_lasting(cache / SEEN, json.dumps(seen))
        most_s = self._most_days * 86_400 or math.inf
        return [ref for ref, commit in own if now - seen[f"{ref} {commit}"] > most_s]

    async def _remove(self, cache: Path) -> bool:
        if own := [ref for ref, _ in await self._branches(cache) if await self._has_own(cache, ref)]:
            log.warning("cache_kept", cache=str(cache), branches=len(own), why="its commits are nowhere else")
            return False
        log.info("cache_removed", cache=str(cache), why="caches may take less")
        return await asyncio.to_thread(remove_tree, cache)

    async def _branches(self, cache: Path) -> list[tuple[str, str]]:
        """The cache's own branches, with the commits at their tips."""
        listed = await self._run(cache, "for-each-ref", "--format=%(refname) %(objectname)", _BRANCHES)
        return [(ref, commit) for ref, _, commit in (line.partition(" ") for line in listed.splitlines())]

    async def _has_own(self, cache: Path, ref: str) -> bool:
        """Whether a branch holds commits that were at no branch or tag of the remote when it was last asked."""
        walk = ("rev-list", "--count", "--max-count=1", ref, "--not", "--remotes", "--tags", "--")
        return (await self._run(cache, *walk)).strip() != "0"

    async def _run(self, cache: Path, *arguments: str) -> str:
        return await self._git.run(f"--git-dir={cache}", *arguments, attempt=_WHO, cwd=cache)


def _read_seen(file: Path) -> dict[str, float]:
    """When branches were first seen (Unix s); empty if that is not known."""
    try:
        return {str(key): float(value) for key, value in json.loads(file.read_bytes()).items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}


def _needs_packing(cache: Path) -> bool:
    objects = cache / "objects"
    packs = sum(1 for file in (objects / "pack").glob("*.pack"))
    loose = sum(len(os.listdir(folder)) for folder in objects.iterdir() if len(folder.name) == 2)  # noqa: PLR2004, PTH208 - git's own form
    return packs > MANY_PACKS or loose > MANY_OBJECTS

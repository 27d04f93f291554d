"""Keeps the work tree of an attempt after every turn, and takes up what an earlier attempt has left that way.

A snapshot is a commit that no branch shows: everything that is not ignored, staged in an index of its own, so that the
work finds git as it left it. Its first parent is where the work's branch stands, its second the snapshot before, so
that each one is still there when the next has replaced it on the ref. It is marked as a draft, and who goes on from it
finds its changes uncommitted, as they were. Git runs as everywhere (:mod:`sidecar.workspace`): within the attempt's
walls on its files, with hooks off, and what leaves this machine goes by the cache.

The caller is ``sidecar/progress.py``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from protocol.messages import Carry
from protocol.model import AttemptId
from protocol.progress import wip_ref
from sidecar.errors import GitFailed
from sidecar.git import checked_address
from sidecar.repository import GitWorkspaces
from sidecar.workspace import Workspace

_INDEX: Final = "agentcom-wip-index"
_REFS: Final = "refs/agentcom/wip/"
_QUIET: Final = ("--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The work tree at one moment; ``head`` is where the work's branch stood, empty without a commit."""

    commit: str
    tree: str
    head: str


class WipWorkspaces(GitWorkspaces):
    """Workspaces whose work in progress can be kept and taken up."""

    async def snapshot(self, workspace: Workspace, message: str, before: Snapshot | None = None) -> Snapshot:
        """Commit everything that is not ignored; ``before`` itself if nothing has changed since.

        Raises:
            GitFailed: git could not.
        """
        await self._look_again(workspace)
        index = workspace.git_dir / _INDEX
        head = await self._resolve(workspace, "HEAD")
        if before is None:
            await self._in(workspace, "read-tree", head or "--empty", index=index)
        await self._in(workspace, "add", "--all", "--", ".", *await self._strangers(workspace), index=index)
        tree = (await self._in(workspace, "write-tree", index=index)).strip()
        if before is not None and (before.tree, before.head) == (tree, head):
            return before
        parents = [head, *([before.commit] if before is not None else [])] if head else []
        named = [word for parent in parents for word in ("-p", parent)]
        commit = (await self._in(workspace, "commit-tree", tree, *named, stdin=message.encode())).strip()
        await self._in(workspace, "update-ref", _ref(workspace), commit)
        return Snapshot(commit, tree, head)

    async def push_wip(self, workspace: Workspace, snapshot: Snapshot) -> str:
        """Push a snapshot to where the repository came from; the ref that it is on, empty without such a place.

        Raises:
            PushRefused: the remote does not take it.
            RepositoryMissing, RepositoryRefused, RepositoryUnreachable: the remote could not be talked to.
        """
        cache = workspace.cache
        if cache is None:
            return ""
        ref = _ref(workspace)
        await self._restore(workspace)
        await self._caches.take(cache, workspace.attempt, workspace.git_dir, f"+{ref}:{ref}")
        await self._push(workspace, cache, ref, f"+{snapshot.commit}:{ref}")
        return ref

    async def forget_wip(self, workspace: Workspace, *refs: str) -> None:
        """Take refs away where the repository came from: the work on them has ended.

        Raises:
            PushRefused: the remote does not let them go.
            RepositoryMissing, RepositoryRefused, RepositoryUnreachable: the remote could not be talked to.
        """
        if workspace.cache is not None and refs:
            await self._push(workspace, workspace.cache, _ref(workspace), *(f":{ref}" for ref in refs))

    async def forget_task(self, repository: str, task: str) -> int:
        """Take away what attempts at a task have pushed of their work in progress; how many refs that was.

        Raises:
            RepositoryInvalid, RepositoryMissing, RepositoryRefused, RepositoryUnreachable: it could not be talked to.
            PushRefused: it does not let them go.
        """
        address, who = checked_address(repository), AttemptId("forget", 0, task, 0)
        home = self._caches.of(address)
        if not home.is_dir():
            return 0  # nothing was ever pushed from here
        asked = ("ls-remote", "--refs", "--end-of-options", address, wip_ref(task, 0).removesuffix("0") + "*")
        listed = await self._git.reach(address, f"--git-dir={home}", *asked, attempt=who, cwd=home)
        refs = [line.partition("\t")[2] for line in listed.output.splitlines()]
        ours = [ref for ref in refs if ref.startswith(wip_ref(task, 0).removesuffix("0"))]
        if ours:
            await self._push_from(home, who, address, f"{_REFS}{task}", *(f":{ref}" for ref in ours))
        return len(ours)

    async def bundle(self, workspace: Workspace, file: Path) -> None:
        """Write the newest snapshot, with what the base lacks, to ``file`` within the attempt's scratch directory.

        Raises:
            GitFailed: git could not.
        """
        beyond = (f"^{workspace.base_commit}",) if workspace.base_commit else ()
        await self._restore(workspace)
        await self._in(workspace, "bundle", "create", "--quiet", str(file), _ref(workspace), *beyond)

    # --- taking up ----------------------------------------------------------------------------------------------------

    async def _open_clone(self, made: Workspace, base: str, carry: Carry | None) -> Workspace:
        if carry is not None and carry.branch.startswith(_REFS):
            attempt, address = made.attempt, made.address
            way = await self._way(attempt, address)
            async with self._caches.held(cache := self._caches.of(address)):
                await self._caches.update(cache, attempt, address, base, way)
                ref, place = carry.branch, way.address if way else address
                fetch = (f"--git-dir={cache}", "fetch", *_QUIET, "--end-of-options", place, f"+{ref}:{ref}")
                outcome = await self._git.reach(address, *fetch, attempt=attempt, cwd=cache, way=way)
                carry = await self._tip(cache, attempt, carry) if outcome.exit_code == 0 else carry
        return await super()._open_clone(made, base, carry)

    async def _tip(self, cache: Path, attempt: AttemptId, carry: Carry) -> Carry:
        """What a person has put on top of the snapshot counts as well."""
        tip = await self._caches.commit_of(cache, attempt, carry.branch)
        if tip in {"", carry.commit} or not await self._is_behind(cache, attempt, carry.commit, tip):
            return carry
        tree = f"{tip}^{{tree}}"
        parent = await self._caches.commit_of(cache, attempt, f"{carry.commit}^1")
        said = await self._caches.run(cache, attempt, "log", "-1", "--format=%B", carry.commit)
        made = await self._git.run(
            f"--git-dir={cache}", "commit-tree", tree, "-p", parent, attempt=attempt, cwd=cache, stdin=said.encode()
        )
        return replace(carry, commit=made.strip())

    async def _is_behind(self, cache: Path, attempt: AttemptId, commit: str, tip: str) -> bool:
        command = (f"--git-dir={cache}", "merge-base", "--is-ancestor", commit, tip)
        return await self._git.succeeds(*command, attempt=attempt, cwd=cache)

    async def _open_alone(self, attempt: AttemptId, branch: str, path: Path, fd: int, carry: Carry | None) -> Workspace:
        if carry is None or not carry.branch.startswith("/"):
            return await super()._open_alone(attempt, branch, path, fd, carry)
        made = await super()._open_alone(attempt, branch, path, fd, None)
        if left := await self._left(made.git_dir, attempt, carry):
            await self._in(made, "reset", "--quiet", "--hard", left)
            made.is_continued = True
        return made

    async def _left(self, repository: Path, attempt: AttemptId, carry: Carry | None) -> str:
        if carry is not None and carry.branch.startswith("/"):
            spec = f"+{_REFS}*:{_REFS}*"
            await self._caches.run(repository, attempt, "fetch", *_QUIET, "--end-of-options", carry.branch, spec)
        return await super()._left(repository, attempt, carry)

    # --- tidying ------------------------------------------------------------------------------------------------------

    async def _keep_commits(self, workspace: Workspace, cache: Path) -> bool:
        are_kept = await super()._keep_commits(workspace, cache)
        await self._drop_refs(cache, workspace.attempt)
        return are_kept

    async def _salvage(self, git_dir: Path, name: str) -> bool:
        is_done = await super()._salvage(git_dir, name)
        cache = self._cache_of(name)
        if cache.is_file():
            task, _, epoch = name.rpartition("-e")
            await self._drop_refs(Path(cache.read_text(encoding="utf-8")), AttemptId("sweep", 0, task, int(epoch)))
        return is_done

    async def _drop_refs(self, cache: Path, attempt: AttemptId) -> None:
        """Forget in the cache what was in progress of this task; it stays where it was pushed to."""
        try:
            listed = await self._caches.run(cache, attempt, "for-each-ref", "--format=%(refname)", _REFS)
            for ref in listed.split():
                if ref.startswith(f"{_REFS}{attempt.task}-e"):
                    await self._caches.run(cache, attempt, "update-ref", "-d", ref)
        except GitFailed:
            return  # a ref too many; the next attempt here takes it away


def _ref(workspace: Workspace) -> str:
    return wip_ref(workspace.attempt.task, workspace.attempt.epoch)

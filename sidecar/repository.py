"""The repository of one attempt, for whoever does its work: see how it stands, branch, check out, add, commit, push.

All of it is the git that delivers the work as well (:class:`sidecar.workspace.Workspaces`): what the work has written
into the repository is set back to ours first, and git runs within the walls of the attempt. What is delivered in the
end is what is checked out then, on the branch of the attempt; only that one can be pushed, by the name that it has.
The tools of the ``agent`` executor are made of it (``sidecar/tools/git.py``).
"""

from dataclasses import dataclass
from typing import Final

from protocol import git
from protocol.errors import BadInput, Problem
from protocol.tree import names_of
from sidecar.cache import HEADS
from sidecar.core.outcome import trailers
from sidecar.errors import PushRefused
from sidecar.workplace import Workspace
from sidecar.workspace import Workspaces

PUSH: Final = "push"
"""What a task needs that lets its agent push before the work is done; every sidecar with git has it."""
MAX_MESSAGE_CHARS: Final = 16_384
MAX_SHOWN: Final = 200
"""Changed files that are shown one by one."""
_HEADS: Final = "refs/heads/"
_QUIET: Final = ("--quiet", "--no-recurse-submodules")


class GitWorkspaces(Workspaces):
    """Workspaces whose repository the work may use."""

    async def see(self, workspace: Workspace) -> str:
        """The branch, the newest commits, and what has changed since the last one.

        Raises:
            GitFailed: git could not.
        """
        changed = await self.uncommitted(workspace)
        head = await self._resolve(workspace, "HEAD")
        log = ("log", "--max-count=5", "--format=%h %s", "--end-of-options", head)
        newest = await self._run(workspace, *log) if head else "none\n"
        said = await self._run(
            workspace, "status", "--porcelain=v1", "--untracked-files=no", "--ignore-submodules=all", "--branch"
        )
        shown = "".join(f"  {path}\n" for path in changed[:MAX_SHOWN])
        more = f"  and {len(changed) - MAX_SHOWN} more\n" if len(changed) > MAX_SHOWN else ""
        branch = said.partition("\n")[0].removeprefix("## ")
        return f"branch: {branch}\ncommits:\n{newest}not committed: {len(changed)} files\n{shown}{more}"

    async def make_branch(self, workspace: Workspace, name: str, start: str) -> str:
        """Make a branch from ``start`` (a branch; empty: what is checked out) and check it out.

        Raises:
            BadInput: it is no name for one.
            GitFailed: there is one of this name, or no such start.
        """
        _check("name", name)
        commit = await self._meaning(workspace, start) if start else await self._resolve(workspace, "HEAD")
        await self._run(workspace, "checkout", *_QUIET, "--no-track", "-b", name, commit or "HEAD", "--")
        return f"{name} is made and checked out"

    async def check_out(self, workspace: Workspace, name: str) -> str:
        """Check out a branch, of this workspace or of where the repository came from.

        Raises:
            BadInput: there is no such branch.
            GitFailed: changes that no commit holds would be lost.
        """
        _check("name", name)
        if await self._resolve(workspace, f"{_HEADS}{name}"):
            await self._run(workspace, "checkout", *_QUIET, name, "--")
        else:
            await self._run(
                workspace, "checkout", *_QUIET, "--no-track", "-b", name, await self._meaning(workspace, name), "--"
            )
        return f"{name} is checked out"

    async def stage(self, workspace: Workspace, paths: tuple[str, ...]) -> str:
        """Put the changes of these files (none: of all) into the next commit.

        Raises:
            BadInput: a path leads out.
            GitFailed: git knows no such file.
        """
        clean = ["/".join(names_of(path)) for path in paths] or [""]
        await self._look_again(workspace)
        named = [f":(top,literal){path}" if path else "." for path in clean]
        await self._in(workspace, "add", "--all", "--", *named, *await self._strangers(workspace))
        return await self._staged(workspace) or "nothing has changed there\n"

    async def commit_stage(self, workspace: Workspace, message: str, author: str, model: str) -> str:
        """Commit what was added; the message tells of the task as well.

        Raises:
            BadInput: the message is empty or too long.
            GitFailed: nothing was added.
        """
        if not message.strip() or "\0" in message or len(message) > MAX_MESSAGE_CHARS:
            raise BadInput([Problem("message", f"1 to {MAX_MESSAGE_CHARS} characters")], "arguments")
        if not (staged := await self._staged(workspace)):
            raise BadInput([Problem("message", "nothing was added: add files first")], "arguments")
        whole = f"{message.strip()}\n\n{trailers(workspace.attempt, model)}"
        await self._restore(workspace)
        await self._commit_staged(workspace, whole, author)
        return f"{(await self._resolve(workspace, 'HEAD'))[:12]}:\n{staged}"

    async def push(self, workspace: Workspace, over: str = "") -> bool:
        """Push the branch; what the work has pushed before and does not stand on any more is replaced.

        Raises as that of :class:`sidecar.workspace.Workspaces`.
        """
        try:
            return await super().push(workspace, over)
        except PushRefused:
            if over or not workspace.pushed_commit:
                raise
            return await super().push(workspace, workspace.pushed_commit)

    async def push_now(self, workspace: Workspace) -> str:
        """Push what is checked out to where the repository came from, on the branch of the attempt.

        Raises:
            PushRefused, RepositoryMissing, RepositoryRefused, RepositoryUnreachable: the remote does not take it.
        """
        await self._restore(workspace)
        if not await self._point(workspace) or not await self.push(workspace):
            return "there is nothing to push: no commit beyond the one that the work began with"
        return f"{workspace.branch} is at {workspace.pushed_commit[:12]}"

    async def _meaning(self, workspace: Workspace, name: str) -> str:
        """The commit at the tip of a branch, here or there.

        Raises:
            BadInput: there is no such branch.
        """
        _check("name", name)
        commit = await self._resolve(workspace, f"{_HEADS}{name}")
        if not commit and workspace.cache is not None:
            commit = await self._caches.commit_of(workspace.cache, workspace.attempt, f"{HEADS}{name}")
        if commit:
            return commit
        raise BadInput([Problem("name", f"there is no branch {name[:100]!r}")], "arguments")

    async def _staged(self, workspace: Workspace) -> str:
        listed = await self._run(
            workspace, "diff", "--cached", "--name-status", "--no-renames", "--ignore-submodules=all", "--"
        )
        lines = listed.splitlines()
        more = [f"and {len(lines) - MAX_SHOWN} more"] if len(lines) > MAX_SHOWN else []
        return "".join(f"  {line}\n" for line in [*lines[:MAX_SHOWN], *more])

    async def _run(self, workspace: Workspace, *arguments: str) -> str:
        await self._restore(workspace)
        return await self._in(workspace, *arguments)


def _check(path: str, name: str) -> None:
    if not git.is_branch(name):
        raise BadInput([Problem(path, f"{name[:100]!r} is no branch name")], "arguments")


@dataclass(frozen=True, slots=True)
class Repository:
    """The repository of one workspace; ``may_push``: the task allows to push before the work is done."""

    workspaces: GitWorkspaces
    workspace: Workspace
    may_push: bool

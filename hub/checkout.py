"""The repository of one project on the hub's disk: clone, branch, checkout, add, commit, push.

Under one folder that only the hub writes::

    git/     the repository, with a configuration of ours
    tree/    the files that are checked out; people and agents read and write them through the API
    logins/  user and password for the repository, if it was registered with them (0600), in a file by the address that
             they are for: they are of no use for another one

There is no ``.git`` in ``tree``, and the API refuses to make one: nothing in the tree can tell git what to do.
Attributes in it may name filters and drivers, but no configuration defines them. The callers,
``hub/services/projects.py`` and ``repositories.py``, see to it that only one of these runs at a time.
"""

import asyncio
import hashlib
import os
import re
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from hub.git import Git, GitRefused, Login, RemoteFailed
from protocol import git as rules
from protocol.errors import BadInput, Conflict, NotFound, Problem
from protocol.projects import CommitView, FileChange, PushView, RepositoryView
from protocol.removal import remove_tree

_CONFIG: Final = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n"
_OURS: Final = "refs/heads/"
_THEIRS: Final = "refs/remotes/origin/"
_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")
_QUIET: Final = ("--quiet", "--no-recurse-submodules")
_STAMP_MS: Final = 2_000
"""Some file systems know times no better."""
_FIRST: Final = "main"
"""The branch that an empty repository begins with."""


class NotCloned(Conflict):
    """The files of the project are not here yet."""

    code = "not_cloned"

    def __init__(self, project: str) -> None:
        self.project = project
        super().__init__(project)

    def __str__(self) -> str:
        return f"project {self.project} is not cloned yet: POST /api/v1/projects/{self.project}/git/clone"


class NotOpen(Conflict):
    """The hub's owner has not opened this part of the disk to projects."""

    code = "not_open"

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(path)

    def __str__(self) -> str:
        return (
            f"{self.path} is not beneath a project root of this hub, or holds the hub's own data; its owner opens "
            "directories with: agentcom hub --project-root DIR"
        )


class PushRejected(Conflict):
    """The remote did not take the branch; nothing was overwritten there."""

    code = "push_refused"

    def __init__(self, branch: str, why: str) -> None:
        self.branch, self.why = branch, why
        super().__init__(branch, why)

    def __str__(self) -> str:
        return f"the remote refused branch {self.branch}: {self.why}; clone again, and see what it has"


class Checkouts:
    """All that projects have on this disk.

    Args:
        folder: where clones lie; made when the first one is. What is beside it is the hub's own data.
        roots: directories of this machine beneath which projects, and repositories to clone, may lie.
        env: the hub's environment, for git.
        ca_file: certificates that git trusts, empty for the machine's.
    """

    def __init__(self, folder: Path, roots: Sequence[str], env: Mapping[str, str], ca_file: str = "") -> None:
        self._folder, self._closed, self._git = folder, folder.parent.resolve(), Git(env, ca_file)
        self._roots = tuple(Path(root).resolve() for root in roots)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def of(self, project: str) -> "Checkout":
        """The clone of a project, made or not."""
        return Checkout(project, self._folder / project, self._git)

    def lock(self, project: str) -> asyncio.Lock:
        """Held by whoever changes the clone of a project."""
        return self._locks[project]

    def forget(self, project: str) -> None:
        """There is no such project any more."""
        self._locks.pop(project, None)

    def forget_logins(self, addresses: Mapping[str, str]) -> None:
        """Forget user and password for what no project comes from any more.

        Args:
            addresses: where each project comes from, by its name.
        """
        for folder in self._folder.iterdir() if self._folder.is_dir() else ():
            self.of(folder.name).forget_logins(addresses.get(folder.name, ""))

    def sort_logins(self, sources: Mapping[str, tuple[str, int]]) -> list[str]:
        """Keep by address what an older version has kept by project.

        Args:
            sources: where each project comes from, and when it was changed last (ms since 1970), by its name.
        Returns:
            Names of projects whose user and password are lost, as they may have been for another address.
        """
        found = [folder.name for folder in self._folder.iterdir()] if self._folder.is_dir() else []
        return [name for name in sorted(found) if not self.of(name).sort_login(*sources.get(name, ("", 0)))]

    async def source(self, address: str) -> str:
        """The address of a repository as git gets it: a path on this disk only where its owner has opened it.

        Raises:
            NotOpen, BadInput: as :meth:`opened`.
        """
        address = address.removeprefix("file://")
        return str(await asyncio.to_thread(self.opened, address)) if address.startswith("/") else address

    def opened(self, path: str) -> Path:
        """A directory of this machine, if the hub's owner has opened it to projects.

        Raises:
            NotOpen: it is not beneath a root, or has to do with the hub's own data.
            BadInput: there is no such directory.
        """
        found = Path(path).resolve()
        is_ours = found.is_relative_to(self._closed) or self._closed.is_relative_to(found)
        if is_ours or not any(found.is_relative_to(root) for root in self._roots):
            raise NotOpen(path)
        if not found.is_dir():
            raise BadInput([Problem("directory", f"{path[:200]!r} is no directory on the hub's machine")], "project")
        return found


class Checkout:
    """The repository of one project.

    Attributes:
        tree: where its files are.
    """

    def __init__(self, project: str, folder: Path, git: Git) -> None:
        self._project, self._folder, self._git = project, folder, git
        self.tree, self._dir, self._logins = folder / "tree", folder / "git", folder / "logins"

    @property
    def is_cloned(self) -> bool:
        """Whether its files are here."""
        return self.tree.is_dir()

    def login(self, address: str) -> Login | None:
        """User and password that are kept for the repository at ``address``; those for another one are not meant."""
        file = self._login_of(address)
        return Login(file, address) if address.startswith("https://") and file.exists() else None

    def keep_login(self, address: str, user: str, password: str) -> None:
        """Keep user and password for the repository at ``address``."""
        self._logins.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._logins / f".{secrets.token_hex(8)}"
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(f"username={user}\npassword={password}\n")
            file.flush()
            os.fsync(fd)
        draft.replace(self._login_of(address))

    def forget_logins(self, but: str = "") -> None:
        """Forget user and password for all addresses, ``but`` this one."""
        spared = self._login_of(but) if but else None
        for file in self._logins.iterdir() if self._logins.is_dir() else ():
            if file != spared:
                file.unlink(missing_ok=True)

    def sort_login(self, address: str, changed_ms: int) -> bool:
        """Move what an older version has kept to its address; ``False``: it may be for another one, and is removed."""
        old, new = self._folder / "login", self._login_of(address)
        try:
            kept_ms = old.stat().st_mtime_ns // 1_000_000
        except (FileNotFoundError, NotADirectoryError):
            return True
        # It was written right after the change that brought it; a later one may have brought another address.
        is_right = bool(address) and kept_ms + _STAMP_MS >= changed_ms
        if is_right and not new.exists():
            self._logins.mkdir(mode=0o700, exist_ok=True)
            old.rename(new)
        old.unlink(missing_ok=True)
        return not address or new.exists()

    def _login_of(self, address: str) -> Path:
        return self._logins / hashlib.sha256(address.encode()).hexdigest()

    def remove(self) -> None:
        """Remove all of it."""
        remove_tree(self._folder)

    # --- the remote ---------------------------------------------------------------------------------------------------

    async def clone(self, address: str, branch: str) -> None:
        """Fetch all branches; the first time also check one out: ``branch``, or the one that is the default there.

        What is checked out already stays as it is.

        Raises:
            RemoteFailed: the repository cannot be talked to.
            NotFound: it has no such branch.
        """
        await self._make()
        wanted = branch or await self._default(address)
        refs = (f"+{_OURS}*:{_THEIRS}*", "+refs/tags/*:refs/tags/*")
        options = (*_QUIET, "--prune", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance")
        await self._reach(address, "fetch", *options, "--end-of-options", address, *refs)
        if self.is_cloned:
            return
        start = await self._commit_of(f"{_THEIRS}{wanted}")
        if branch and not start:
            raise NotFound("branch", branch)
        fresh = self.tree.with_name("tree.new")
        remove_tree(fresh)
        fresh.mkdir(mode=0o700)
        await self._in(fresh, "symbolic-ref", "HEAD", f"{_OURS}{wanted}")
        if start:
            await self._in(fresh, "checkout", *_QUIET, "--force", "--no-track", "-B", wanted, start, "--")
        fresh.rename(self.tree)  # at once, so files that are here are all here

    async def push(self, address: str, branch: str) -> PushView:
        """Push a branch (empty: what is checked out) to where the project comes from, never forced.

        Raises:
            RemoteFailed: the repository cannot be talked to.
            PushRejected: it has other commits on that branch, or its rules forbid it.
            NotFound: there is no such branch here, or it has no commit.
        """
        name = branch or await self._branch()
        commit = await self._commit_of(f"{_OURS}{name}") if rules.is_branch(name) else ""
        if not commit:
            raise NotFound("branch with a commit", name or "HEAD")
        options = ("--porcelain", "--no-verify", *rules.receiving(address), "--end-of-options")
        await self._reach(address, "push", *options, address, f"{commit}:{_OURS}{name}", name=name)
        await self._in(self.tree, "update-ref", f"{_THEIRS}{name}", commit)
        return PushView(branch=name, commit=commit, repository=rules.masked(address))

    async def _reach(self, address: str, action: str, *arguments: str, name: str = "") -> str:
        command = (f"--git-dir={self._dir}", action, *arguments)
        done = await self._git.reach(address, *command, cwd=self._dir, login=self.login(address))
        if done.exit_code and name:
            refused = [line for line in (done.out + done.error).splitlines() if line.startswith(("!", "remote:"))]
            raise PushRejected(name, rules.one_line("\n".join(refused) or done.error)[-500:])
        if done.exit_code:
            raise RemoteFailed(address, rules.one_line(done.error)[-500:])
        return done.out

    async def _default(self, address: str) -> str:
        said = await self._reach(address, "ls-remote", "--symref", "--end-of-options", address, "HEAD")
        found = re.match(r"ref: refs/heads/(\S+)\tHEAD", said)
        return found[1] if found and rules.is_branch(found[1]) else _FIRST

    async def _make(self) -> None:
        if self._dir.is_dir():
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._dir.with_name("git.new")
        remove_tree(fresh)
        options = ("--quiet", "--bare", "--template=", f"--initial-branch={_FIRST}", "--end-of-options")
        await self._git.run("init", *options, str(fresh), cwd=self._folder)
        (fresh / "config").write_text(_CONFIG, encoding="utf-8")
        fresh.rename(self._dir)

    # --- here ---------------------------------------------------------------------------------------------------------

    async def view(self, address: str) -> RepositoryView:
        """How it stands.

        Raises:
            NotCloned: it is not here yet.
        """
        self._assert_cloned()
        refs = (await self._in(self.tree, "for-each-ref", "--format=%(refname)", _OURS, _THEIRS)).splitlines()
        commit = await self._commit_of("HEAD")
        ahead = await self._in(self.tree, "rev-list", "--count", commit, "--not", "--remotes") if commit else "0"
        return RepositoryView(
            repository=rules.masked(address),
            branch=await self._branch(),
            commit=commit,
            branches=tuple(ref.removeprefix(_OURS) for ref in refs if ref.startswith(_OURS)),
            remote_branches=tuple(ref.removeprefix(_THEIRS) for ref in refs if ref.startswith(_THEIRS)),
            changes=await self._changes(),
            unpushed=int(ahead),
        )

    async def holds_alone(self) -> str:
        """What would be lost with it: words for a person; empty if all of it is at the remote, too."""
        if not self.is_cloned:
            return ""
        if changes := await self._changes():
            return f"{len(changes)} files have changes that no commit holds"
        ahead = (await self._in(self.tree, "rev-list", "--count", "--branches", "--not", "--remotes")).strip()
        return "" if ahead == "0" else f"{ahead} commits were not pushed"

    async def branch(self, name: str, start: str) -> None:
        """Make a branch from ``start`` (a branch here or there, or a commit; empty: what is checked out).

        Raises:
            Conflict: there is one of this name.
            NotFound: there is nothing called ``start``.
        """
        self._assert_cloned()
        if await self._commit_of(f"{_OURS}{name}"):
            raise Conflict(f"there is a branch {name!r} already")
        commit = await self._meaning(start) if start else await self._commit_of("HEAD")
        if not commit:
            raise NotFound("branch or commit", start or "HEAD")
        await self._in(self.tree, "branch", "--quiet", "--no-track", "--end-of-options", name, commit)

    async def checkout(self, name: str) -> None:
        """Check out a branch, here or at the remote.

        Raises:
            NotFound: there is no such branch.
            GitRefused: changes that no commit holds would be lost.
        """
        self._assert_cloned()
        if await self._commit_of(f"{_OURS}{name}"):
            await self._in(self.tree, "checkout", *_QUIET, name, "--")
        elif there := await self._commit_of(f"{_THEIRS}{name}"):
            await self._in(self.tree, "checkout", *_QUIET, "--no-track", "-b", name, there, "--")
        else:
            raise NotFound("branch", name)

    async def add(self, paths: tuple[str, ...]) -> None:
        """Put the changes of these files (none: of all) into the next commit.

        Raises:
            GitRefused: git knows no such file.
        """
        self._assert_cloned()
        named = "\0".join(paths or (".",)).encode()
        await self._in(self.tree, "add", "--all", "--pathspec-from-file=-", "--pathspec-file-nul", stdin=named)

    async def commit(self, message: str, author: str) -> CommitView:
        """Commit what was added.

        Raises:
            GitRefused: nothing was.
        """
        self._assert_cloned()
        if not any(change.staged and change.staged != "?" for change in await self._changes()):
            raise GitRefused("commit", "nothing was added: POST .../git/add first")
        who = (f"--author={author}",) if author else ()
        options = ("--quiet", "--no-verify", "--no-gpg-sign", "--cleanup=whitespace", *who, "--file=-")
        await self._in(self.tree, "commit", *options, stdin=message.encode())
        commit = await self._commit_of("HEAD")
        plain = ("--root", "--no-commit-id", "--name-only", "-r", "-z", "--no-renames", "--no-ext-diff")
        said = await self._in(self.tree, "diff-tree", *plain, commit)
        files = tuple(path for path in said.split("\0") if path)
        return CommitView(branch=await self._branch(), commit=commit, files=files)

    async def _changes(self) -> tuple[FileChange, ...]:
        options = ("--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", "--ignore-submodules=all")
        said = await self._in(self.tree, "status", *options)
        return tuple(
            FileChange(path=entry[3:], staged=entry[0].strip(), unstaged=entry[1].strip())
            for entry in said.split("\0")
            if entry
        )

    async def _branch(self) -> str:
        done = await self._git.ask(f"--git-dir={self._dir}", "symbolic-ref", "--quiet", "HEAD", cwd=self._dir)
        return done.out.strip().removeprefix(_OURS)

    async def _meaning(self, name: str) -> str:
        for ref in (f"{_OURS}{name}", f"{_THEIRS}{name}") if rules.is_branch(name) else ():
            if commit := await self._commit_of(ref):
                return commit
        return await self._commit_of(name) if _COMMIT.fullmatch(name) else ""

    async def _commit_of(self, ref: str) -> str:
        command = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        done = await self._git.ask(f"--git-dir={self._dir}", *command, cwd=self._dir)
        return done.out.strip() if done.exit_code == 0 else ""

    async def _in(self, tree: Path, *arguments: str, stdin: bytes = b"") -> str:
        return await self._git.run(f"--git-dir={self._dir}", f"--work-tree={tree}", *arguments, cwd=tree, stdin=stdin)

    def _assert_cloned(self) -> None:
        if not self.is_cloned:
            raise NotCloned(self._project)

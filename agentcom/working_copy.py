"""A person's or an agent's own working copy of a repository: what ``agentcom git`` does there.

Git runs as whoever calls it has set it up, with its keys and hooks: it is that person's copy. What is remembered of a
branch (project, title, where it began, its task) stands in the copy's own configuration, beside the branch.
"""

import hashlib
import re
import subprocess
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from protocol import git as rules
from protocol.errors import BadInput, Conflict, Problem
from protocol.projects import ProjectList, ProjectView

REMOTE: Final = "origin"
PREFIX: Final = "work"
"""Branches are ``work/WHO/WHAT``; those of attempts begin with ``agentcom/``."""
_WORD: Final = re.compile(r"[^a-z0-9]+")
_SLUG_CHARS: Final = 48
_MOST_ALIKE: Final = 100


class GitSaysNo(Conflict):
    """Git does not do this in the working copy; its own words say why."""

    code = "git_refused"

    def __init__(self, action: str, said: str) -> None:
        self.action, self.said = action, said
        super().__init__(action, said)

    def __str__(self) -> str:
        return f"git {self.action}: {self.said or 'it said nothing'}"


class Standing(NamedTuple):
    """How a branch stands: commits that only it has, or only the one it is for, and files that no commit holds."""

    branch: str
    into: str
    commit: str
    ahead: int
    behind: int
    changes: tuple[str, ...]
    is_pushed: bool


class WorkingCopy:
    """The working copy that ``folder`` is in.

    Raises:
        BadInput: it is in none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        status, said = self._ask("rev-parse", "--show-toplevel")
        if status:
            raise BadInput([Problem("", f"{folder} is in no git repository; clone the project's first")], "command")
        self._folder = Path(said)

    # --- what is known ------------------------------------------------------------------------------------------------

    @property
    def branch(self) -> str:
        """What is checked out.

        Raises:
            BadInput: a commit without a branch.
        """
        status, said = self._ask("symbolic-ref", "--quiet", "--short", "HEAD")
        if status:
            raise BadInput([Problem("", "no branch is checked out; agentcom git start begins one")], "command")
        return said

    def noted(self, branch: str, name: str) -> str:
        """What is remembered of a branch; empty if nothing is."""
        return self._ask("config", "--local", "--get", f"branch.{branch}.agentcom{name}")[1]

    def note(self, branch: str, name: str, value: str) -> None:
        """Remember something of a branch."""
        self._run("config", "--local", f"branch.{branch}.agentcom{name}", value)

    def project(self, projects: ProjectList, named: str = "") -> ProjectView:
        """The project whose repository this is a copy of.

        Raises:
            BadInput: it is none, or of several, and nobody has said which.
        """
        address = self._ask("remote", "get-url", REMOTE)[1]
        fitting = [
            project
            for project in projects.projects
            if (project.name == named if named else project.repository and same(project.repository, address))
        ]
        if len(fitting) == 1:
            return fitting[0]
        known = ", ".join(project.name for project in (fitting or projects.projects)[:10]) or "none"
        where = rules.masked(address) or "no remote 'origin'"
        said = f"no project {named!r}" if named else f"{len(fitting)} projects are at {where}"
        raise BadInput([Problem("--project", f"{said}; name one with --project: {known}")], "command")

    def default_branch(self) -> str:
        """The branch that the remote calls its own.

        Raises:
            GitSaysNo: it does not answer.
        """
        found = re.search(r"ref: refs/heads/(\S+)\tHEAD", self._run("ls-remote", "--symref", REMOTE, "HEAD"))
        return found[1] if found else "main"

    def standing(self, into: str) -> Standing:
        """How the branch that is checked out stands to ``into``, as it was fetched last."""
        branch = self.branch
        changes = self._run("status", "--porcelain=v1", "-z", "--untracked-files=all").split("\0")
        commit = self._ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}")[1]
        status, counted = self._ask("rev-list", "--left-right", "--count", f"refs/remotes/{REMOTE}/{into}...HEAD")
        behind, ahead = (int(count) for count in counted.split()) if not status and counted else (0, 0)
        there = self._ask("rev-parse", "--verify", "--quiet", f"refs/remotes/{REMOTE}/{branch}^{{commit}}")[1]
        files = tuple(entry[3:] for entry in changes if len(entry) > len("XY "))
        return Standing(branch, into, commit, ahead, behind, files, bool(commit) and there == commit)

    def subject(self) -> str:
        """The first line of the last commit."""
        return self._run("log", "-1", "--format=%s")

    # --- what is done -------------------------------------------------------------------------------------------------

    def start(self, title: str, project: ProjectView, into: str) -> str:
        """Begin a branch for a piece of work from the newest ``into``, and check it out; its name.

        Raises:
            GitSaysNo: changes would be lost, or there is no such branch.
        """
        self._run("fetch", "--quiet", REMOTE, f"+refs/heads/{into}:refs/remotes/{REMOTE}/{into}")
        who = self._ask("config", "--get", "user.email")[1].partition("@")[0] or "somebody"
        name = f"{PREFIX}/{slug(who)}/{slug(title)}"
        taken = set(self._run("for-each-ref", "--format=%(refname:short)", "refs/heads/").split())
        number = next(n for n in range(1, _MOST_ALIKE) if _numbered(name, n) not in taken)
        branch = _numbered(name, number)
        self._run("switch", "--quiet", "--no-track", "--create", branch, f"refs/remotes/{REMOTE}/{into}")
        for what, value in (("title", title), ("project", project.name), ("into", into)):
            self.note(branch, what, value)
        return branch

    def push(self, branch: str) -> None:
        """Push the branch to where the repository came from, never over what others have pushed.

        Raises:
            GitSaysNo: the remote refuses.
        """
        self._run("push", "--quiet", "--set-upstream", REMOTE, f"HEAD:refs/heads/{branch}")

    def _run(self, *arguments: str) -> str:
        status, said = self._ask(*arguments)
        if status:
            raise GitSaysNo(rules.action(arguments), rules.one_line(said)[-500:])
        return said

    def _ask(self, *arguments: str) -> tuple[int, str]:
        """The exit status, and what git said: on stdout, or if it failed on stderr."""
        command = ["git", *arguments]
        try:
            done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False)
        except FileNotFoundError as exc:
            raise BadInput([Problem("", "git is not installed, or not on the PATH")], "command") from exc
        if done.returncode:
            return done.returncode, done.stderr.strip()
        return 0, done.stdout.rstrip("\n")


def same(one: str, other: str) -> bool:
    """Whether two addresses name one repository, by https, ssh or a path."""
    return bool(one) and _place(one) == _place(other)


def _place(address: str) -> tuple[str, str]:
    """Host (in small letters, without its port) and path of an address."""
    address = rules.split_login(address)[0]
    if "://" in address:
        parts = urlsplit(address)
        host, path = parts.hostname or "", parts.path
    elif address.startswith("/") or ":" not in address:
        host, path = "", address
    else:
        host, _, path = address.partition(":")
        host = host.rpartition("@")[2]
    return host.lower(), path.strip("/").removesuffix(".git")


def slug(text: str) -> str:
    """``text`` as a part of a branch's name: small letters, digits and dashes."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return _WORD.sub("-", plain).strip("-")[:_SLUG_CHARS].rstrip("-") or "x"


def key_of(parts: Iterable[str]) -> str:
    """An idempotency key that is the same for the same parts."""
    return "git-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}-{number}"

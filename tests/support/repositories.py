"""Real git repositories on this disk for tests: a bare remote, and a way to commit to it and look into it.

Uses the git of the machine, cut off from its user's and system's configuration.
"""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ENV: Final = {
    "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/homebrew/bin",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "A Developer",
    "GIT_AUTHOR_EMAIL": "developer@example.org",
    "GIT_COMMITTER_NAME": "A Developer",
    "GIT_COMMITTER_EMAIL": "developer@example.org",
    "LC_ALL": "C",
}


CALC: Final = "def add(a, b):\n    return a - b\n"
"""A module with a mistake, ..."""
TEST_OF_CALC: Final = (
    "import unittest\nfrom calc import add\n\n\nclass Add(unittest.TestCase):\n"
    "    def test_add(self):\n        self.assertEqual(add(2, 3), 5)\n"
)
"""... and the test that finds it (``test_calc.py``, for unittest)."""


def git(cwd: Path, *arguments: str) -> str:
    """What a git command says on stdout, without the blanks around it.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    done = subprocess.run(["git", *arguments], cwd=cwd, env=_ENV, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@dataclass(frozen=True)
class Remote:
    """A bare repository that stands for the one on a server; ``clone`` is a developer's copy of it."""

    path: Path
    clone: Path

    def commit(self, files: Mapping[str, str], message: str = "Change files", branch: str = "main") -> str:
        """Write files, commit them to ``branch`` (made from main if it is new) and push; the commit."""
        if git(self.clone, "branch", "--show-current") != branch:
            known = git(self.clone, "branch", "--list", branch)
            git(self.clone, "checkout", "--quiet", *([branch] if known else ["-b", branch]))
        for name, text in files.items():
            (self.clone / name).parent.mkdir(parents=True, exist_ok=True)
            (self.clone / name).write_text(text, encoding="utf-8")
        git(self.clone, "add", "--all")
        git(self.clone, "commit", "--quiet", "--allow-empty", "--message", message)
        git(self.clone, "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
        return git(self.clone, "rev-parse", "HEAD")

    def tip(self, branch: str) -> str:
        """The commit at the tip of a branch; empty if there is no such branch."""
        return git(self.path, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")

    def show(self, branch: str, name: str) -> str:
        """A file as it is on a branch."""
        return git(self.path, "show", f"{branch}:{name}")

    def branches(self) -> list[str]:
        """Names of all branches, in order."""
        return git(self.path, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads/").split()


def arm(repository: Path, trap: Path) -> None:
    """Have a bare repository name ``trap`` wherever git that receives a push would run something."""
    hooks = ("pre-receive", "update", "post-receive", "post-update", "reference-transaction", "proc-receive")
    for name in hooks:
        (repository / "hooks").mkdir(exist_ok=True)
        (repository / "hooks" / name).unlink(missing_ok=True)
        (repository / "hooks" / name).symlink_to(trap)
    other = repository.with_name("other.git")
    git(repository.parent, "init", "--quiet", "--bare", str(other))
    (repository / "objects" / "info" / "alternates").write_text(f"{other}/objects\n")
    git(repository, "config", "core.alternateRefsCommand", str(trap))
    git(repository, "config", "core.fsmonitor", str(trap))
    git(repository, "config", "receive.autogc", "true")
    git(repository, "config", "gc.auto", "1")


def make_remote(folder: Path, files: Mapping[str, str] | None = None, name: str = "remote") -> Remote:
    """A bare repository ``<folder>/<name>.git`` with one commit of ``files`` on main; with ``{}`` it has no commit."""
    remote = Remote(folder / f"{name}.git", folder / f"{name}-clone")
    git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(remote.path))
    git(folder, "clone", "--quiet", str(remote.path), str(remote.clone))
    git(remote.clone, "symbolic-ref", "HEAD", "refs/heads/main")
    if files != {}:
        remote.commit(files or {"README.md": "# A project\n"}, "Start")
    return remote

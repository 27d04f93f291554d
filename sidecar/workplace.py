"""What there is of an attempt on this disk: its directory, its repository, and what its programs get of them.

Made and given back by ``sidecar/workspace.py``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from protocol.model import AttemptId
from sidecar.git import Walls
from sidecar.sandbox.policy import Place

OBEYED: Final = ("config", "config.worktree", "hooks", "info", "objects/info")
"""What git obeys in a repository, or runs: the work, and the checks of the work, find it as it was made."""


@dataclass(eq=False)
class Workspace:
    """The working directory of one attempt.

    ``base_commit`` is the commit it started from, empty without a repository; ``branch`` is where its work goes.
    """

    path: Path
    base_commit: str
    branch: str
    has_repo: bool
    attempt: AttemptId
    git_dir: Path
    """Its own repository, outside of ``path``."""
    address: str
    """Where it came from and where it is pushed to; empty without a repository."""
    claim: int
    """Descriptor of the lock that says this attempt lives."""
    cache: Path | None = None
    """Where its repository finds what it has not itself; what is delivered goes from there."""
    pushed_commit: str = ""
    is_continued: bool = False
    """It holds what an earlier attempt has left."""
    walls: Walls | None = None
    """Where git runs on the files that the work has written; ``None``: nothing but us has written any."""
    eyes: Walls | None = None
    """The same for git with a repository of ours, at :meth:`look`: nothing of the work reaches it there."""

    @property
    def sight_dir(self) -> Path:
        """A repository of ours to look at the work with (``sidecar/sight.py``)."""
        return self.git_dir.with_suffix(".sight")

    def look(self, scratch: Path) -> Place:
        """Where the work is looked at: beside its files only what is ours, in directories that it does not know."""
        self.sight_dir.mkdir(mode=0o700, exist_ok=True)
        read = (self.cache / "objects",) if self.cache is not None else ()
        return Place(workspace=self.path, scratch=scratch, read=read, write=(self.sight_dir,))

    def place(self, scratch: Path) -> Place:
        """What the programs of the attempt get of this disk.

        Args:
            scratch: the attempt's directory for what is no result.
        """
        fixed = (self.path / ".git", *(self.git_dir / name for name in OBEYED))
        read = (self.cache / "objects",) if self.cache is not None else ()
        return Place(workspace=self.path, scratch=scratch, read=read, write=(self.git_dir,), fixed=fixed)

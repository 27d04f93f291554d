"""Shapes of projects, their files and their repositories, under ``/api/v1/projects``.

A project is a repository or a directory that is registered with the hub under a name, with what its tasks inherit.
"""

from datetime import datetime
from typing import Final

from msgspec import Struct

from protocol.bounds import Few, Many, Measure, Sentence, Text, Whole, Word, Words
from protocol.checks import Check
from protocol.choice import CleanRoom, Escalation
from protocol.model import Priority, Tier
from protocol.pulls import PullRules

MAX_PROJECTS: Final = 1_000
MAX_LISTED: Final = 1_000
"""Entries on one page of a directory."""


class BudgetDefaults(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What an attempt may use, where neither the task nor this says so the hub's own defaults count."""

    tokens: Whole | None = None
    usd: Measure | None = None
    seconds: Measure | None = None
    fix_attempts: Whole | None = None


class TaskDefaults(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What tasks of a project get that do not say it themselves; the fields are those of a task."""

    executor: Sentence | None = None
    complexity: Tier | None = None
    model: Sentence | None = None
    success_criteria: Many[Text] | None = None
    verification: Few[Check] | None = None
    needs: Few[Word] | None = None
    budget: BudgetDefaults | None = None
    max_retries: Whole | None = None
    ttl_s: Measure | None = None
    labels: Words | None = None
    escalation: Escalation | None = None
    learning: bool | None = None
    clean_room: CleanRoom | None = None


class ProjectBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /projects``: one of ``repository`` and ``directory``.

    ``repository`` may be an https address with user and password; they are put aside and never shown again.
    """

    name: Word
    repository: Word = ""
    directory: Word = ""
    """An existing directory on the hub's machine, beneath one of its ``project_roots``."""
    branch: Word = ""
    """Where tasks start from and what is checked out first; empty: the repository's own default."""
    priority: Priority | None = None
    defaults: TaskDefaults = TaskDefaults()
    description: Sentence = ""
    default: bool = False
    """Tasks that name no project belong to this one."""
    pulls: PullRules = PullRules()
    """What becomes of work that its tasks have pushed."""


class ProjectPatch(Struct, kw_only=True, forbid_unknown_fields=True):
    """``PATCH /projects/{name}``: what is left out stays."""

    repository: Word | None = None
    branch: Word | None = None
    priority: Priority | None = None
    defaults: TaskDefaults | None = None
    description: Sentence | None = None
    default: bool | None = None
    pulls: PullRules | None = None


class ProjectView(Struct, kw_only=True):
    """A project; addresses are shown without credentials."""

    name: str
    repository: str
    directory: str
    branch: str
    priority: Priority | None
    defaults: TaskDefaults
    description: str
    default: bool
    has_credential: bool
    """This hub keeps user and password for the repository."""
    is_cloned: bool
    """Its files are here: always for a directory, for a repository once it was cloned."""
    created_at: datetime
    changed_at: datetime
    version: int = 0
    """Counts its changes; the ``ETag`` of its answers, for ``If-Match``."""
    pulls: PullRules = PullRules()


class ProjectList(Struct, kw_only=True):
    """All projects, by name."""

    projects: tuple[ProjectView, ...]
    next_cursor: str | None = None


# --- files ------------------------------------------------------------------------------------------------------------


class FileEntry(Struct, kw_only=True):
    """Something in a directory: ``kind`` is ``file``, ``directory``, ``link`` (never followed) or ``other``."""

    path: str
    kind: str
    size_bytes: int
    changed_at: datetime


class FileList(Struct, kw_only=True):
    """What a directory of a project holds, by name."""

    files: tuple[FileEntry, ...]
    next_cursor: str | None = None


class FileView(Struct, kw_only=True):
    """A file of a project: its content (base64 in JSON), and the SHA-256 of it in hexadecimal digits."""

    path: str
    size_bytes: int
    sha256: str
    content: bytes


class FileWritten(Struct, kw_only=True):
    """A file that was written; ``created``: there was none before."""

    path: str
    size_bytes: int
    sha256: str
    created: bool


class GitAccess(Struct, kw_only=True):
    """What git of one attempt uses instead of user and password: where below the hub, and a credential.

    It fetches, and pushes the attempt's own branch, and ends with the attempt's lease.
    """

    path: str
    token: str


# --- git --------------------------------------------------------------------------------------------------------------


class FileChange(Struct, kw_only=True):
    """A file that differs from the last commit.

    ``staged`` and ``unstaged`` are git's letters (``A``, ``M``, ``D``, ``T``, ``U``; ``?``: git does not know it yet;
    empty: no difference).
    """

    path: str
    staged: str
    unstaged: str


class RepositoryView(Struct, kw_only=True):
    """How the repository of a project stands."""

    repository: str
    """Where it was cloned from and what is pushed to; without credentials."""
    branch: str
    """What is checked out; empty: a commit without a branch."""
    commit: str
    branches: tuple[str, ...]
    remote_branches: tuple[str, ...]
    changes: tuple[FileChange, ...]
    unpushed: int
    """Commits of this branch that the remote does not have, as far as the last clone or push has seen."""


class BranchBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST .../git/branch``: a new branch from ``start`` (a branch or commit; empty: what is checked out)."""

    name: Word
    start: Word = ""


class CheckoutBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST .../git/checkout``: a branch, here or at the remote."""

    branch: Word


class AddBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST .../git/add``: files or directories whose changes the next commit takes; none: all."""

    paths: Many[Word] = ()


class CommitBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST .../git/commit``: of what was added. ``author`` is ``Name <address>``."""

    message: Sentence
    author: Word = ""


class CommitView(Struct, kw_only=True):
    """A commit that was made."""

    branch: str
    commit: str
    files: tuple[str, ...]


class PushBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST .../git/push``: a branch (empty: what is checked out) to where the project comes from; never forced."""

    branch: Word = ""


class PushView(Struct, kw_only=True):
    """A branch that the remote has taken."""

    branch: str
    commit: str
    repository: str

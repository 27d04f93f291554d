"""Pull requests: the rules of a project for them, and what people see of each.

Work that a task has pushed is offered at the forge where the repository lives. How risky it looks is decided by
``hub/core/risk.py``; where a request stands, by ``hub/services/pulls.py``.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final

from msgspec import Struct

from protocol.bounds import Few, Whole, Word

MAX_PATTERNS: Final = 100
OFFER: Final = "offer"
"""Label of a task: the branch that holds the same commit, and is offered in the place of the attempt's own."""
MAX_REASONS: Final = 20
"""Reasons for a risk that are kept; the gravest come first."""


class Forge(StrEnum):
    """Whose API the server of the repository speaks; ``none``: no requests are opened."""

    NONE = "none"
    FORGEJO = "forgejo"
    GITEA = "gitea"
    GITHUB = "github"


class Merging(StrEnum):
    """Which requests the hub merges by itself: none, or those of low risk and those that a person has approved."""

    NONE = "none"
    SAFE = "safe"


class Method(StrEnum):
    """How they are merged."""

    MERGE = "merge"
    SQUASH = "squash"
    REBASE = "rebase"


class Risk(StrEnum):
    """How much can go wrong with a change, by what it touches."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


RISK_ORDER: Final[dict[Risk, int]] = {risk: number for number, risk in enumerate(Risk)}


class PullState(StrEnum):
    """Where a request stands; the allowed changes are ``hub.core.pulls.PULL_EDGES``."""

    PENDING = "pending"  # to be opened, as soon as the task has completed and the forge answers
    DRAFT = "draft"  # open, and waits for a person
    OPEN = "open"  # open for everybody
    MERGED = "merged"
    CLOSED = "closed"  # at the forge, without being merged
    FAILED = "failed"  # the forge refuses it for good; a person may have it tried again


class PullRules(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a project wants to become of work that its tasks have pushed."""

    forge: Forge = Forge.NONE
    into: Word = ""
    """The branch that it is for; empty: where the task started from, else the repository's default."""
    merge: Merging = Merging.NONE
    method: Method = Method.MERGE
    protected: Few[Word] = ()
    """Paths (``*``, ``?``, ``**``) that only a person lets anybody change."""
    most_lines: Whole = 400
    most_files: Whole = 20
    """A change of more lines, or of more files, is no small one."""


class PullView(Struct, kw_only=True):
    """A pull request of a task."""

    task: str
    project: str
    state: PullState
    branch: str
    into: str
    commit: str
    number: int | None
    url: str
    risk: Risk | None
    """``None`` as long as nobody has looked at the change."""
    reasons: tuple[str, ...]
    """Why the risk is what it is, the gravest first."""
    approved_by: str
    """Id of the token of the person who has let it go on; empty: nobody has."""
    problem: str
    """What keeps it where it is, with the way out; empty if nothing does."""
    tries: int
    """How often the forge was asked in vain since something went well."""
    next_at: datetime | None
    """When the hub looks at it next; ``None``: it is over, or waits for a person."""
    changed_at: datetime


class PullList(Struct, kw_only=True):
    """A page of pull requests, those of the newest tasks first."""

    pulls: tuple[PullView, ...]
    next_cursor: str | None = None

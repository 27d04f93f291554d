"""Work in progress: what is kept of an attempt after every turn, so that another machine can go on from there.

A sidecar commits the work tree to a ref of its own (:func:`wip_ref`) after each turn of a model and between two
iterations, and brings a document (:class:`Saved`) with the conversation to the hub, as a file of the attempt that no
task can name. Where there is no repository to push to, the commits come along as a bundle. What the hub has of an
attempt that was lost, or stopped by a person, its successor asks for (:class:`Left`).
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct

from protocol.bounds import Count, Sentence
from protocol.model import Iteration, Usage

PAUSE: Final = "pause"
"""Capability of a sidecar that keeps work in progress, stops at the end of a turn and gives its GPU back."""
FORGET: Final = "forget"
"""Capability of a sidecar that takes work in progress of tasks that have ended away from where it was pushed to."""
RECLAIMED: Final = "gpu:reclaimed"
"""Capability of a sidecar whose machine's owner has taken the GPU back: it does no work of models there.

With a colon and a name or an address behind it: where others find that machine."""
GPU: Final = "gpu"
"""Capability of a sidecar that has one to give, and what a task needs that takes one."""
PAUSED: Final = "paused"
"""``error_code`` of an attempt that was stopped at the end of a turn, to go on later."""
FOLDER: Final = ".agentcom"
"""First part of the paths of what is kept for machines; no task may keep a file there."""
DOCUMENT: Final = f"{FOLDER}/progress.json"
MAX_DOCUMENT_BYTES: Final = 8 << 20
MAX_NOTE_CHARS: Final = 4_000


MODELS_DO: Final = frozenset({"agent", "chat"})
"""Executors whose work can stop and go on later: one between two turns, the other from its beginning."""


class HoldKind(StrEnum):
    """Why a task is held up."""

    PAUSE = "pause"  # it is to wait
    TAKE = "take"  # a person works on it


def wip_ref(task: str, epoch: int) -> str:
    """Where an attempt's work in progress is, in its repository and where that came from."""
    return f"refs/agentcom/wip/{task}-e{epoch}"


def bundle_path(number: int) -> str:
    """Path of the ``number``-th bundle of an attempt: two take turns, so that the last document always has its own."""
    return f"{FOLDER}/wip-{number % 2}.bundle"


def is_for_machines(path: str) -> bool:
    """Whether a kept file is none of the task's."""
    return path.partition("/")[0] == FOLDER


class Saved(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where an attempt stood after a turn. Unknown fields are ignored."""

    iteration: Count
    """The one that goes on."""
    turn: Count
    """Turns of it that are done; 0: it has not begun."""
    iterations: tuple[Iteration, ...] = ()
    """Those that have ended."""
    model: str = ""
    commit: str = ""
    """Everything in the work tree; its first parent is where the work's own branch stood."""
    ref: str = ""
    bundle: str = ""
    """Path of the file with the commits, where they were not pushed to ``ref``."""
    underway: Usage = Usage()
    """What the turns of this iteration have used."""
    used: Usage = Usage()
    """What all turns and iterations have used, those of earlier attempts too."""
    told: Usage = Usage()
    """What of it stood in reports of earlier attempts when this one began."""
    seconds: float = 0.0
    carried_usd: float = 0.0
    """What was spent before the first of these attempts."""
    transcript: dict[str, Any] | None = None
    """The conversation, as its executor writes it."""


class Left(Struct, frozen=True, kw_only=True):
    """``GET /tasks/{id}/progress``: what earlier attempts have left for the one that asks."""

    epoch: Count = 0
    """Whose it is; 0: nothing was left."""
    sidecar: str = ""
    boot: Count = 0
    reported: bool = False
    """What it has used stands in a report already."""
    saved: Saved | None = None
    note: str = ""
    """What the person wrote who has handed the task back."""


class HoldView(Struct, kw_only=True):
    """A task that a person holds up; ``by`` is the id of their token."""

    kind: HoldKind
    by: str
    reason: str
    at: datetime
    stopping: bool
    """Its attempt is still at work, until the end of its turn."""


class PauseBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /tasks/{id}/pause`` and ``/take``; the body may be left out."""

    reason: Sentence = ""


class HandBackBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /tasks/{id}/hand-back``; the body may be left out. The note goes into what the model is told next."""

    note: Sentence = ""


class ProgressView(Struct, kw_only=True):
    """How far an attempt had come when it was last kept."""

    epoch: int
    iteration: int
    turn: int
    ref: str
    commit: str
    usage: Usage
    iterations: tuple[Iteration, ...]
    """Those that have ended."""
    transcript: str
    """Id of the file that holds the conversation."""
    bundle: str = ""
    """Id of the file that holds the commits, if they were not pushed to ``ref``."""
    at: datetime | None = None

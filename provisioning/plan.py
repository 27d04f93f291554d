"""Which steps are left of a way, in which order, and how they are undone.

Pure: steps are named, what was done is a set of names. A step that was begun and not ended is done again: every one
finds out itself what is there. The caller is ``provisioning/join.py``, which keeps what was done in a file.
"""

from collections.abc import Collection, Sequence
from typing import Final

from msgspec import Struct

JOIN: Final = ("preflight", "trust", "key", "register", "detect", "config", "service", "ready", "smoke")
"""A machine joins, in this order."""
ALWAYS: Final = frozenset({"preflight", "trust", "detect"})
"""What is looked at again with every run: it may have changed, and costs little."""
UNDONE: Final = ("smoke", "ready", "service", "register", "config", "key", "trust")
"""A machine leaves, in this order: first its work ends, then the hub hears of it, then nothing is left here."""
PURGED: Final = frozenset({"config", "key", "trust"})
"""What stays unless everything is to go: with it the machine comes back as what it was."""

UPGRADE: Final = ("fetch", "build", "check", "switch", "restart", "ready", "tidy")
"""A machine gets another release, in this order."""
RISKY: Final = frozenset({"restart", "ready"})
"""If one of these fails, the release that was there before comes back."""


class Step(Struct, frozen=True):
    """What to do about a step: ``do``, or ``skip`` because it was done."""

    name: str
    verb: str


def to_join(done: Collection[str], *, again: Collection[str] = ()) -> tuple[Step, ...]:
    """All steps, those that were done as ``skip``.

    Args:
        done: what an earlier run has ended.
        again: what is to be done however; what comes behind the first of them is done again, too.
    """
    steps, is_behind = [], False
    for name in JOIN:
        is_behind = is_behind or name in again or (name not in done and name not in ALWAYS)
        steps.append(Step(name, "do" if is_behind or name in ALWAYS else "skip"))
    return tuple(steps)


def to_upgrade(done: Collection[str]) -> tuple[Step, ...]:
    """All steps of an upgrade, those that were done as ``skip``.

    Until the new release counts all are done again: what is there already is only looked through.
    """
    left = [number for number, name in enumerate(UPGRADE) if name not in done]
    first = left[0] if left else len(UPGRADE)
    if first <= UPGRADE.index("switch"):
        first = 0
    return tuple(Step(name, "skip" if number < first else "do") for number, name in enumerate(UPGRADE))


def to_leave(begun: Collection[str], *, purge: bool) -> tuple[str, ...]:
    """What is to be undone, in order: all that was begun, ended or not."""
    return tuple(name for name in UNDONE if name in begun and (purge or name not in PURGED))


def parents_to_remove(made: Sequence[str]) -> tuple[str, ...]:
    """Folders that were made, the innermost first; they go if they are empty."""
    return tuple(sorted(dict.fromkeys(made), key=len, reverse=True))

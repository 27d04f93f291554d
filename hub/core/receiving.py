"""What a ``git push`` asks for, read from the first bytes of its request, and whether an attempt may ask for that.

Pure. A request to receive a pack begins with one line for each branch: the old commit, the new one, and the name;
https://git-scm.com/docs/pack-protocol. The caller is ``hub/services/gate.py``.
"""

import re
from typing import Final, NamedTuple

from protocol import git
from protocol.errors import Refused
from protocol.progress import wip_ref

MAX_HEAD_BYTES: Final = 64 << 10
MAX_BEFORE: Final = 100
"""Attempts before this one whose work in progress it may remove."""
_COMMAND: Final = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) ([0-9a-f]{40}|[0-9a-f]{64}) ([^\0\n]+)(?:\0([^\n]*))?\n?")
_ORDERS: Final = frozenset({b"push-options", b"push-cert"})
"""What a client says that will send more than branches: servers make merge requests of options, and set variables."""
_LENGTH: Final = re.compile(rb"[0-9a-f]{4}")
_HEADS: Final = "refs/heads/"
_LEAST: Final = 4
"""Bytes of a line's length, which counts itself; a length of 0 ends the list."""


class PushForbidden(Refused):
    """An attempt wants to push something else than its own branch."""

    code = "push_forbidden"

    def __init__(self, wanted: str) -> None:
        self.wanted = wanted
        super().__init__(wanted)

    def __str__(self) -> str:
        return f"an attempt pushes its own branch and nothing else; it wants {self.wanted[:200]!r}"


class Wish(NamedTuple):
    """What a push wants of one name: to set it, or to remove it."""

    ref: str
    removes: bool = False


def wishes_of(head: bytes) -> tuple[Wish, ...] | None:
    """What a push wants; ``None``: more bytes are needed to know.

    Raises:
        PushForbidden: it is no list of names.
    """
    wishes: list[Wish] = []
    at = 0
    while len(head) >= at + _LEAST:
        if not _LENGTH.fullmatch(said := head[at : at + _LEAST]):
            raise PushForbidden("what is no list of branches")
        length = int(said, 16)
        if length == 0:
            return tuple(wishes)
        if length <= _LEAST or length > MAX_HEAD_BYTES - at:
            raise PushForbidden("so many branches")
        if len(head) < at + length:
            return None
        wishes.append(_wish(head[at + _LEAST : at + length]))
        at += length
    return None


def _wish(line: bytes) -> Wish:
    found = _COMMAND.fullmatch(line)
    if found is None:
        raise PushForbidden("what is no branch")
    if any(word.partition(b"=")[0] in _ORDERS for word in (found[4] or b"").split()):
        raise PushForbidden("to give the server orders besides")
    return Wish(found[3].decode("utf-8", "replace"), removes=not found[2].strip(b"0"))


def check_own(wishes: tuple[Wish, ...], task: str, epoch: int) -> None:
    """Pass if this is about branches of this attempt, or its work in progress, or removes what the task had of that.

    Raises:
        PushForbidden: it is not.
    """
    for wish in wishes:
        if wish.removes:
            is_own = wish.ref in {wip_ref(task, number) for number in range(max(1, epoch - MAX_BEFORE), epoch + 1)}
        else:
            is_own = wish.ref == wip_ref(task, epoch) or _is_branch_of(wish.ref, task, epoch)
        if not is_own:
            raise PushForbidden(f"to remove {wish.ref}" if wish.removes else wish.ref)


def _is_branch_of(ref: str, task: str, epoch: int) -> bool:
    branch = ref.removeprefix(_HEADS)
    is_own = branch.startswith("agentcom/") and branch.endswith(f"-{task}-e{epoch}")
    return ref.startswith(_HEADS) and is_own and git.is_branch(branch)

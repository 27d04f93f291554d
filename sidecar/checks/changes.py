"""The checks that judge what was changed: ``no_placeholders``, ``no_secrets``, ``diff_limits`` and ``protected_paths``.

The change is the one that the workspace's owner sees (``Workspaces.patch``), against the commit that the work began
from; without a repository, all that is in the workspace.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from protocol.checks import CheckDiffLimits, CheckNoPlaceholders, CheckNoSecrets, CheckProtectedPaths
from protocol.errors import BadInput, WorkFailed
from protocol.model import Finding
from protocol.redaction import Redactor
from protocol.tree import Tree
from sidecar.checks.base import Ground, finding
from sidecar.core.diff import Change, matches
from sidecar.core.opaque import SOURCES, lines_of, texts
from sidecar.core.placeholders import placeholders

MOST_BYTES: Final = 32 << 20
"""A file that is no text is looked into up to this size."""

_SHOWN: Final = 5
_FOUND: Final = "a secret, or what looks like one"
_C = TypeVar("_C", CheckNoPlaceholders, CheckNoSecrets, CheckDiffLimits, CheckProtectedPaths)


def _judging(judge: Callable[[_C, Sequence[Change], Tree], list[str]]) -> Callable[[_C, Ground], Awaitable[Finding]]:
    """A check that asks ``judge`` what is wrong with the change of a tree."""

    async def run(check: _C, ground: Ground) -> Finding:
        try:
            wrong = await asyncio.to_thread(judge, check, await ground.changes(), Tree(ground.cell.workspace))
        except WorkFailed as exc:
            return finding(check, passed=False, detail=str(exc))
        return _told(check, wrong)

    run.__doc__ = judge.__doc__
    return run


def _told(check: _C, wrong: Sequence[str]) -> Finding:
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return finding(check, passed=not wrong, detail="; ".join(wrong[:_SHOWN]) + more)


def _put_off(check: CheckNoPlaceholders, changes: Sequence[Change], tree: Tree) -> list[str]:
    """Passes if no added line puts the work off, also in what git takes for no text although it is one."""
    wrong: list[str] = []
    for change in _looked_at(changes, check.ignore):
        if _is_unread(change):
            try:
                lines = () if _where_to(tree, change.path) else lines_of(tree.read_whole(change.path, MOST_BYTES))
            except BadInput as exc:
                wrong.append(_unseen(exc))
                continue
            if lines is None:
                wrong += [f"{change.path} is no text"] if matches(change.path, SOURCES) else []
                continue
            change = replace(change, added=lines)  # noqa: PLW2901 - the same, read otherwise
        wrong += [f"{change.path}:{number}: {what}" for number, what in sorted(placeholders(change))]
    return wrong


async def no_secrets(check: CheckNoSecrets, ground: Ground) -> Finding:
    """Passes if nothing that is delivered holds a secret of a known shape; the secret itself is told nobody.

    With the files go all commits of the work: what one of them has added is delivered although another took it away.
    """
    try:
        changes = await ground.changes()
        wrong = await asyncio.to_thread(_leaked, check, changes, Tree(ground.cell.workspace))
        earlier = await asyncio.to_thread(_leaked_before, check, await ground.history(), changes)
    except WorkFailed as exc:
        return finding(check, passed=False, detail=str(exc))
    return _told(check, [*wrong, *earlier])


def _leaked(check: CheckNoSecrets, changes: Sequence[Change], tree: Tree) -> list[str]:
    redactor, wrong = Redactor(), []
    for change in _looked_at(changes, check.ignore):
        wrong += [f"{change.path}:{number}: {_FOUND}" for number, line in change.added if redactor.text(line) != line]
        if _is_unread(change):
            try:
                held = _where_to(tree, change.path) or tree.read_whole(change.path, MOST_BYTES).decode("latin-1")
            except BadInput as exc:
                wrong.append(_unseen(exc))
                continue
            wrong += [f"{change.path}: {_FOUND}"] if any(redactor.text(text) != text for text in texts(held)) else []
    return wrong


def _leaked_before(check: CheckNoSecrets, commits: Sequence[Change], now: Iterable[Change]) -> list[str]:
    """Secrets in what commits have added, without those that the files still hold."""
    redactor, known = Redactor(), {(change.path, line) for change in now for _, line in change.added}
    found = {
        change.path: f"{change.path}: {_FOUND}, in a commit of the work; all of them are delivered, make them anew"
        for change in _looked_at(commits, check.ignore)
        for _, line in change.added
        if (change.path, line) not in known and any(redactor.text(text) != text for text in texts(line))
    }
    return list(found.values())


def _looked_at(changes: Iterable[Change], ignore: Sequence[str]) -> Iterator[Change]:
    return (change for change in changes if not matches(change.path, ignore))


def _is_unread(change: Change) -> bool:
    return change.is_opaque and not change.is_gone and not change.added


def _unseen(why: BadInput) -> str:
    return f"{why.problems[0].problem}: nobody can look into it"


def _where_to(tree: Tree, path: str) -> str:
    """Where a link leads, empty for what is none.

    Raises:
        BadInput: the path cannot be looked at.
    """
    if tree.kind(path) != "link":
        return ""
    try:
        return str((tree.root / path).readlink())
    except OSError:
        return ""  # gone since


def _too_much(check: CheckDiffLimits, changes: Sequence[Change], _tree: Tree) -> list[str]:
    """Passes if the change is no larger than allowed; what cannot be counted is no small change."""
    counted = (
        (len(changes), check.max_files, "files changed"),
        (sum(len(change.added) for change in changes), check.max_added, "lines added"),
        (sum(len(change.removed) for change in changes), check.max_removed, "lines removed"),
    )
    wrong = [f"{found} {what}, at most {most}" for found, most, what in counted if most is not None and found > most]
    if check.max_added is not None or check.max_removed is not None:
        wrong += [f"the lines of {change.path} cannot be counted" for change in changes if change.is_opaque]
    return wrong


def _touched(check: CheckProtectedPaths, changes: Sequence[Change], _tree: Tree) -> list[str]:
    """Passes if nothing that is protected was changed, added or deleted."""
    found = ((change.path, matches(change.path, check.paths)) for change in changes)
    return [f"{path} is protected by {pattern!r}" for path, pattern in found if pattern]


no_placeholders = _judging(_put_off)
diff_limits = _judging(_too_much)
protected_paths = _judging(_touched)

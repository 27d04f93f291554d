"""Find the files that a task wants kept, and bring them to where they are kept.

What the names of a task stand for is looked up in the workspace without following a link or leaving it
(:mod:`protocol.tree`). A name that stands for nothing is told in the output and fails nothing: whether a file
has to be there is for a check to say. The caller is ``sidecar/rounds.py``, when no process of the work is left; the way
to the hub is ``sidecar/depot.py``.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Final, Protocol

from protocol.errors import BadInput, Problem
from protocol.limits import MAX_ARTIFACTS, MAX_PATH_CHARS, UPLOAD_BYTES_S
from protocol.model import Artifact, AttemptId, TaskSpec
from protocol.progress import is_for_machines
from protocol.tree import Tree, names_of
from sidecar.errors import UploadFailed
from sidecar.workspace import Workspace

MAX_LOOKED_AT: Final = 100_000
"""Entries of directories that are looked at for one name: a pattern over a whole disk image ends here."""
LEAST_S: Final = 60.0
_WILD: Final = "*?["
_ANY_DEPTH: Final = "**"


class Depot(Protocol):
    """Where files are kept (``sidecar/depot.py``)."""

    @property
    def attempt_bytes(self) -> int:
        """All files of one attempt have at most so many bytes together."""
        ...

    async def bring(self, attempt: AttemptId, tree: Tree, path: str) -> Artifact | None:
        """Have a file of the attempt's workspace kept; ``None``: the hub keeps none.

        Raises:
            UploadFailed: it cannot be kept.
            LeaseOver: the attempt does not count any more.
            BadInput: there is no such file.
        """
        ...


async def keep_files(
    depot: Depot,
    attempt: AttemptId,
    spec: TaskSpec,
    workspace: Workspace,
    *,
    say: Callable[[str], None],
    allow_s: Callable[[float], None],
    must: bool,
) -> tuple[Artifact, ...]:
    """Bring all that the task wants kept; what was kept.

    Without a repository the answer that ``save_as`` names lies nowhere else, so it is kept too.

    Args:
        say: takes a line about what is missing or left out.
        allow_s: hears how many seconds this may take.
        must: a file that cannot be kept is an error; else it is only told.
    Raises:
        UploadFailed, LeaseOver: as :meth:`Depot.bring`.
    """
    tree = Tree(workspace.path)
    has_repo = workspace.has_repo
    wanted = list(dict.fromkeys([*spec.artifacts, *([spec.save_as] if spec.save_as and not has_repo else [])]))
    if not wanted:
        return ()
    paths, remarks = await asyncio.to_thread(_found, tree, wanted)
    sizes = await asyncio.to_thread(lambda: sum(tree.size_bytes(path) for path in paths))
    allow_s(LEAST_S + min(sizes, depot.attempt_bytes) / UPLOAD_BYTES_S)
    for remark in remarks:
        say(f"artifact {remark}")
    kept = []
    for path in paths:
        try:
            artifact = await depot.bring(attempt, tree, path)
        except BadInput as exc:
            say(f"artifact {exc.problems[0].problem}")
            continue
        except UploadFailed as exc:
            if must:
                raise
            say(str(exc))
            break
        if artifact is None:
            say("artifacts are not kept: the hub is of a version that keeps none")
            break
        kept.append(artifact)
    return tuple(kept)


def _found(tree: Tree, wanted: Iterable[str]) -> tuple[list[str], list[str]]:
    """The files that the names stand for, each once, and what has to be said about the names."""
    paths: dict[str, None] = {}
    remarks = []
    for name in wanted:
        try:
            found = list(matches(tree, name))
        except BadInput as exc:
            remarks.append(exc.problems[0].problem)
            continue
        if not found:
            remarks.append(f"{name[:100]!r} is not there")
        paths |= dict.fromkeys(path for path in found if not is_for_machines(path))
    if len(paths) > MAX_ARTIFACTS:
        remarks.append(f"names stand for {len(paths):,} files; the first {MAX_ARTIFACTS:,} are kept")
    return list(paths)[:MAX_ARTIFACTS], remarks


def matches(tree: Tree, name: str, most: int = MAX_LOOKED_AT) -> Iterator[str]:
    """Regular files that ``name`` stands for, in order: a path, a directory (all in it), or a pattern.

    Raises:
        BadInput: it leaves the workspace, or too much would have to be looked at.
    """
    steps = names_of(name)
    if not any(sign in name for sign in _WILD):
        path = "/".join(steps)
        kind = tree.kind(path)
        if kind == "file":
            yield path
        elif kind == "directory":
            yield from _walk(tree, path, (_ANY_DEPTH,), [most])
        return
    yield from _walk(tree, "", steps, [most])


def _walk(tree: Tree, folder: str, steps: Sequence[str], left: list[int]) -> Iterator[str]:
    """Files below ``folder`` that the steps of a pattern lead to; ``left``: how many entries may still be looked at."""
    step, rest = steps[0], steps[1:]
    if step == _ANY_DEPTH and rest:
        yield from _walk(tree, folder, rest, left)  # it stands for no folder at all, too
    for name, kind in tree.entries(folder):
        left[0] -= 1
        if left[0] < 0:
            most = "too many files and folders would have to be looked at"
            raise BadInput([Problem("path", f"{'/'.join(steps)[:100]!r}: {most}; name them more closely")], "path")
        path = f"{folder}/{name}" if folder else name
        if not name.isprintable() or len(path) > MAX_PATH_CHARS:
            continue
        if kind == "directory" and step == _ANY_DEPTH:
            yield from _walk(tree, path, steps, left)
        elif kind == "directory" and rest and fnmatchcase(name, step):
            yield from _walk(tree, path, rest, left)
        elif kind == "file" and not rest and (step == _ANY_DEPTH or fnmatchcase(name, step)):
            yield path

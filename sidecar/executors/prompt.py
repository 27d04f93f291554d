"""The words in which a task is put to a model: what to do, what to look at, when it is done, and what to repair."""

import asyncio
from collections import deque
from typing import Final

from protocol.errors import BadInput
from protocol.tree import Tree
from sidecar.core.overview import names_in, overview
from sidecar.core.verify import feedback, left_of
from sidecar.executors.base import Work
from sidecar.tools.base import clip

MAX_FILE_BYTES: Final = 16 << 10
MAX_FILES_BYTES: Final = 48 << 10
"""Contents of named files put before a model: about 14,000 tokens; a model with tools reads the rest itself."""
MAX_MAP_BYTES: Final = 4 << 10
"""The map of a workspace that a model with tools begins with: about 1,200 tokens."""
MAX_MAPPED_FILES: Final = 2_000
MAX_MAPPED_FOLDERS: Final = 5_000
MAX_READ_FILES: Final = 400
MAX_SOURCE_BYTES: Final = 64 << 10
_FAILED_CHARS: Final = 3_000
_NOT_OURS: Final = frozenset("node_modules __pycache__ venv dist build target vendor".split())
_SOURCES: Final = (
    ".py",
    ".js",
    ".ts",
    ".tsx",
    ".jsx",
    ".go",
    ".rs",
    ".java",
    ".kt",
    ".rb",
    ".php",
    ".cs",
    ".swift",
    ".sh",
)
_LEAST_BYTES: Final = 512
"""Less of a file than this tells nothing."""


async def task_text(work: Work, *, with_files: bool) -> str:
    """The task as a prompt; ``with_files`` puts the contents of ``context.files`` in, else only their names."""
    spec = work.spec
    parts = [part for part in (spec.title, spec.prompt) if part.strip()]
    if spec.context.notes.strip():
        parts.append(f"Notes:\n{spec.context.notes}")
    files = spec.context.files
    if work.previous is not None and spec.save_as and spec.save_as not in files:
        files = (*files, spec.save_as)  # a file that nobody shows can only be written anew, not repaired
    if files:
        listed = "\n".join(f"- {name}" for name in files)
        contents = (
            await asyncio.to_thread(_contents, work, files) if with_files else f"Files to look at first:\n{listed}"
        )
        parts.append(contents)
    if not with_files and (seen := await asyncio.to_thread(_map, work)):
        parts.append(seen)
    if spec.success_criteria:
        parts.append("It is done when:\n" + "\n".join(f"- {criterion}" for criterion in spec.success_criteria))
    if work.previous is not None:
        left = left_of(work.remaining, work.iteration)
        parts.append(feedback(work.previous, work.lead, changes=await work.changes(), left=left))
    if work.note:
        parts.append(work.note)
    return "\n\n".join(parts)


def _contents(work: Work, files: tuple[str, ...]) -> str:
    tree, left, parts = Tree(work.workspace), MAX_FILES_BYTES, []
    for name in files:
        if left < _LEAST_BYTES:
            parts.append(f"File {name}: left out, the files before it fill the room there is")
            continue
        try:
            raw = tree.read_bytes(name)
        except BadInput as exc:
            parts.append(f"File {name}: {exc.problems[0].problem}")
            continue
        shown = clip(raw.decode("utf-8", "replace"), min(MAX_FILE_BYTES, left))
        left -= len(shown.encode())
        parts.append(f"File {name}:\n```\n{shown}\n```")
    return "\n\n".join(parts)


def _map(work: Work) -> str:
    """What there is in the workspace, for a model that would have to look around for it."""
    spec, failed = work.spec, () if work.previous is None else work.previous.findings
    said = (spec.title, spec.prompt, spec.context.notes, *spec.context.files, *spec.success_criteria)
    about = "\n".join([*said, *(found.output[-_FAILED_CHARS:] for found in failed if not found.passed)])
    return overview(_defined(Tree(work.workspace)), about, MAX_MAP_BYTES)


def _defined(tree: Tree) -> dict[str, tuple[str, ...]]:
    """The files of the workspace with the names that they define; what is made, hidden or not ours is left out."""
    found: dict[str, tuple[str, ...]] = {}
    folders, read, seen = deque(["."]), 0, 0
    while folders and len(found) < MAX_MAPPED_FILES and seen < MAX_MAPPED_FOLDERS:
        folder, seen = folders.popleft(), seen + 1
        try:
            entries = tree.entries(folder)
        except BadInput:
            continue
        for name, kind in entries:
            if not name.isprintable():
                continue  # half a character, or a line break: a name could say anything
            path = name if folder == "." else f"{folder}/{name}"
            if kind == "directory" and not name.startswith(".") and name not in _NOT_OURS:
                folders.append(path)
            elif kind == "file" and len(found) < MAX_MAPPED_FILES:
                is_source = path.endswith(_SOURCES) and read < MAX_READ_FILES
                read += is_source
                found[path] = _names(tree, path) if is_source else ()
    return found


def _names(tree: Tree, path: str) -> tuple[str, ...]:
    try:
        return names_in(tree.read_bytes(path, MAX_SOURCE_BYTES).decode("utf-8", "replace"))
    except BadInput:
        return ()

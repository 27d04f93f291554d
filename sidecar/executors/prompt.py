"""The words in which a task is put to a model: what to do, what to look at, when it is done, and what to repair."""

import asyncio
from typing import Final

from protocol.errors import BadInput
from protocol.tree import Tree
from sidecar.core.verify import feedback, left_of
from sidecar.executors.base import Work
from sidecar.tools.base import clip

MAX_FILE_BYTES: Final = 16 << 10
MAX_FILES_BYTES: Final = 48 << 10
"""Contents of named files put before a model: about 14,000 tokens; a model with tools reads the rest itself."""
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

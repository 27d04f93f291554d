"""Tools on the files of the workspace: list, read, search, edit, write.

All confined by :mod:`protocol.tree`, all bounded. Searching is done by grep in a process of the attempt: a
pattern that a model invents may run for ever, and a process can be ended.
"""

import asyncio
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from protocol.errors import BadInput, Problem
from protocol.tree import MAX_READ_BYTES, Tree, names_of
from sidecar.core.editing import Edited, NoPlace, edited
from sidecar.sandbox.cell import Cell
from sidecar.tools.base import Tool

MAX_ENTRIES: Final = 400
MAX_HITS: Final = 200
MAX_HIT_CHARS: Final = 300
MAX_WRITE_BYTES: Final = 1 << 20
DEFAULT_LINES: Final = 400
AROUND: Final = 2
MAX_SHOWN: Final = 24
"""Lines of an edit that are shown, and how many of them before and behind what is new."""
SEARCH_TIMEOUT_S: Final = 20.0
_SEARCH_OUTPUT_BYTES: Final = 1 << 20


class ListArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of ``list``."""

    path: Annotated[str, Meta(description="directory in the workspace; '.' is its top")] = "."


class ReadArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of ``read``."""

    path: Annotated[str, Meta(description="file in the workspace")]
    first_line: Annotated[int, Meta(description="first line to show, from 1")] = 1
    last_line: Annotated[int, Meta(description="last line to show; 0: as many as fit")] = 0


class SearchArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of ``search``."""

    text: Annotated[str, Meta(description="what to look for")]
    path: Annotated[str, Meta(description="file or directory to look in")] = "."
    regex: Annotated[bool, Meta(description="text is an extended regular expression")] = False


class EditArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of ``edit``."""

    path: Annotated[str, Meta(description="file in the workspace")]
    old: Annotated[str, Meta(description="text to replace, as in the file; must occur once; empty: whole lines")] = ""
    new: Annotated[str, Meta(description="text to put in its place")]
    first_line: Annotated[int, Meta(description="first line to look in, or to replace; 0: anywhere")] = 0
    last_line: Annotated[int, Meta(description="last line to look in, or to replace")] = 0


class WriteArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of ``write``."""

    path: Annotated[str, Meta(description="file in the workspace; directories are made")]
    content: Annotated[str, Meta(description="the whole new content")]


def file_tools(cell: Cell) -> tuple[Tool[Any], ...]:
    """The file tools of one attempt."""
    files = _Files(cell)
    return (
        Tool("list", "List a directory of the workspace.", ListArguments, files.list),
        Tool("read", "Show a file, or some of its lines.", ReadArguments, files.read),
        Tool("search", "Find lines in the workspace's files.", SearchArguments, files.search),
        Tool("edit", "Replace a text that occurs once in a file, or whole lines.", EditArguments, files.edit),
        Tool("write", "Create a file or replace all of it.", WriteArguments, files.write),
    )


class _Files:
    def __init__(self, cell: Cell) -> None:
        self._tree, self._cell = Tree(cell.workspace), cell

    async def list(self, arguments: ListArguments) -> str:
        entries = await asyncio.to_thread(self._tree.entries, arguments.path)
        marks = {"directory": "/", "link": " (link, not followed)", "other": " (no regular file)"}
        lines = [f"{name}{marks.get(kind, '')}" for name, kind in entries[:MAX_ENTRIES]]
        if len(entries) > MAX_ENTRIES:
            lines.append(f"[{len(entries) - MAX_ENTRIES} more]")
        return "\n".join(lines) or "(empty)"

    async def read(self, arguments: ReadArguments) -> str:
        first, last = arguments.first_line, arguments.last_line
        problems = []
        if first < 1:
            problems.append(Problem("first_line", f"{first}; lines count from 1"))
        if last and last < first:
            problems.append(Problem("last_line", f"{last} is before first_line {first}"))
        if problems:
            raise BadInput(problems, "arguments")
        lines = (await self._text(arguments.path)).splitlines(keepends=True)
        last = min(last or first + DEFAULT_LINES - 1, len(lines))
        if first > len(lines):
            return f"{arguments.path}: it has {len(lines)} lines"
        return f"{arguments.path}: lines {first} to {last} of {len(lines)}\n{''.join(lines[first - 1 : last])}"

    async def search(self, arguments: SearchArguments) -> str:
        if not arguments.text:
            raise BadInput([Problem("text", "is empty")], "arguments")
        names = names_of(arguments.path)
        if names and not await asyncio.to_thread(self._tree.exists, arguments.path):
            raise BadInput([Problem("path", f"{arguments.path[:100]!r} is not there, or is a link")], "arguments")
        command = ["grep", "-rnI", "-E" if arguments.regex else "-F", "--exclude-dir=.git", "-e", arguments.text, "--"]
        outcome = await self._cell.run(
            [*command, "./" + "/".join(names)],
            timeout_s=SEARCH_TIMEOUT_S,
            max_output_bytes=_SEARCH_OUTPUT_BYTES,
        )
        if outcome.timed_out:
            return f"error: the search took longer than {SEARCH_TIMEOUT_S:g} s; look for something narrower"
        if outcome.exit_code == 1:
            return "nothing found"
        if outcome.exit_code != 0 and not outcome.output.startswith("./"):
            return f"error: {outcome.output.strip()[:MAX_HIT_CHARS] or 'the search failed'}"
        hits = [line.removeprefix("./")[:MAX_HIT_CHARS] for line in outcome.output.splitlines()]
        more = [f"[{len(hits) - MAX_HITS} more lines; narrow the search]"] if len(hits) > MAX_HITS else []
        return "\n".join(hits[:MAX_HITS] + more)

    async def edit(self, arguments: EditArguments) -> str:
        path, text = arguments.path, await self._text(arguments.path)
        try:
            done = edited(text, arguments.old, arguments.new, first=arguments.first_line, last=arguments.last_line)
        except NoPlace as exc:
            raise BadInput([Problem("old", str(exc))], "arguments") from exc
        await self._save(path, done.text)
        how = f" ({done.note})" if done.note else ""
        return f"replaced 1 place at line {done.first} of {path}{how}; it reads now:\n{_around(done)}"

    async def write(self, arguments: WriteArguments) -> str:
        size = await self._save(arguments.path, arguments.content)
        return f"wrote {size} bytes to {arguments.path}"

    async def _text(self, path: str) -> str:
        raw = await asyncio.to_thread(self._tree.read_bytes, path, MAX_READ_BYTES + 1)
        if len(raw) > MAX_READ_BYTES:
            raise BadInput([Problem("path", f"{path[:100]!r} is larger than {MAX_READ_BYTES >> 20} MiB")], "arguments")
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise BadInput([Problem("path", f"{path[:100]!r} is no UTF-8 text")], "arguments") from exc

    async def _save(self, path: str, text: str) -> int:
        raw = text.encode("utf-8", "replace")
        if len(raw) > MAX_WRITE_BYTES:
            raise BadInput([Problem("content", f"{len(raw)} bytes; at most {MAX_WRITE_BYTES}")], "arguments")
        await asyncio.to_thread(self._tree.write_bytes, path, raw)
        return len(raw)


def _around(done: Edited) -> str:
    """The new lines with some before and behind them, numbered, so that nobody has to read the file again."""
    lines = done.text.splitlines()
    begin, end = max(0, done.first - 1 - AROUND), min(len(lines), done.last + AROUND)
    shown = [f"{number}: {lines[number - 1][:MAX_HIT_CHARS]}" for number in range(begin + 1, end + 1)]
    if len(shown) > MAX_SHOWN:
        half = MAX_SHOWN // 2
        shown = [*shown[:half], f"[{len(shown) - 2 * half} more lines]", *shown[-half:]]
    return "\n".join(shown)

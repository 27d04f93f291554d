"""The checks that look at one file: ``file_exists``, ``file_absent``, ``file_contains`` and ``json_schema``.

What a file holds is the work's: it is read up to a limit, searched for a pattern by a program that can be ended, and
held against a schema in linear time.
"""

import asyncio
import itertools
from typing import Any, Final

import msgspec

from protocol.checking import validator_of
from protocol.checks import CheckFileAbsent, CheckFileContains, CheckFileExists, CheckJsonSchema
from protocol.errors import BadInput
from protocol.model import Finding
from protocol.tree import MAX_READ_BYTES, Tree
from sidecar.checks.base import Ground, finding, time_for
from sidecar.errors import CannotStart

_SHOWN: Final = 5
_MOST_MISFITS: Final = 1_000
"""Looked for at most; a document may have millions."""


async def file_exists(check: CheckFileExists, ground: Ground) -> Finding:
    """Passes if a file or directory is there. Links do not count: what they point to is not the work's."""
    try:
        there = await asyncio.to_thread(Tree(ground.cell.workspace).exists, check.path)
    except BadInput as exc:
        return finding(check, passed=False, detail=str(exc))
    return finding(check, passed=there, detail="" if there else f"{check.path!r} is not there")


async def file_absent(check: CheckFileAbsent, ground: Ground) -> Finding:
    """Passes if nothing is there: no file, no directory, and no link either."""
    try:
        kind = await asyncio.to_thread(Tree(ground.cell.workspace).kind_for_sure, check.path)
    except BadInput as exc:
        return finding(check, passed=False, detail=str(exc))
    return finding(check, passed=not kind, detail=f"{check.path!r} is there, a {kind}" if kind else "")


async def file_contains(check: CheckFileContains, ground: Ground) -> Finding:
    """Passes if the text is in the file and a line matches the pattern (extended regular expression, as of grep)."""
    try:
        content = await _content(check.path, ground)
    except BadInput as exc:
        return finding(check, passed=False, detail=str(exc))
    if check.text.encode() not in content:
        return finding(check, passed=False, detail=f"{check.path!r} does not hold {check.text[:100]!r}")
    if not check.pattern:
        return finding(check, passed=True)
    try:
        searched = await ground.cell.run(
            ["grep", "-qaE", "-e", check.pattern], timeout_s=time_for(check, ground), stdin=content
        )
    except CannotStart as exc:
        return finding(check, passed=False, detail=str(exc))
    matched = searched.exit_code == 0
    wrong = searched.output.strip() or f"no line of {check.path!r} matches {check.pattern[:100]!r}"
    return finding(check, passed=matched, detail="" if matched else wrong, seconds=searched.seconds)


async def json_schema(check: CheckJsonSchema, ground: Ground) -> Finding:
    """Passes if the file is JSON that fits the schema; else the detail names the first places that do not."""
    try:
        content = await _content(check.path, ground)
        problems = await asyncio.to_thread(_misfits, check.schema, content)
    except BadInput as exc:
        return finding(check, passed=False, detail=str(exc))
    except (msgspec.DecodeError, RecursionError) as exc:
        return finding(check, passed=False, detail=f"{check.path!r} is no JSON: {exc}")
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return finding(check, passed=not problems, detail="; ".join(problems[:_SHOWN]) + more)


async def _content(path: str, ground: Ground) -> bytes:
    """All of a file.

    Raises:
        BadInput: it is no file of the workspace, or holds more than ``MAX_READ_BYTES``.
    """
    return await asyncio.to_thread(Tree(ground.cell.workspace).read_whole, path, MAX_READ_BYTES)


def _misfits(schema: dict[str, Any], content: bytes) -> list[str]:
    """Where a document does not fit; raises :class:`msgspec.DecodeError` if it is none."""
    document = msgspec.json.decode(content)
    return [
        f"{'/'.join(map(str, error.instance_path)) or 'the document'}: {error.message[:200]}"
        for error in itertools.islice(validator_of(schema).iter_errors(document), _MOST_MISFITS)
    ]

"""The check ``plugin``: a program that the owner of this host has named looks at the work.

It is started within the sandbox, in the workspace, gets one JSON document on stdin and answers with one on stdout
(docs/how-to/checks.md). What it says on stderr is shown and decides nothing. It fails closed: a program that ends with
another exit code than 0, or whose answer is none, has not let the work pass.
"""

from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from protocol.checks import CheckPlugin
from protocol.errors import WorkFailed
from protocol.model import Finding
from sidecar.checks.base import Ground, finding, run_program, time_for
from sidecar.core.diff import Change

VERSION: Final = 1
MOST_ASKED_BYTES: Final = 8 << 20
"""A larger change is told without its lines."""
_MOST_DETAIL_CHARS: Final = 2_000


class Answer(Struct, frozen=True):
    """What a plug-in says; ``doubtful``: a person has to decide."""

    passed: bool
    detail: str = ""
    doubtful: bool = False


async def plugin(check: CheckPlugin, ground: Ground) -> Finding:
    """Passes if the program of that name says so."""
    argv = ground.plugins.get(check.plugin)
    if argv is None:
        return finding(check, passed=False, detail=f"this sidecar has no plug-in {check.plugin!r}")
    try:
        asked = question(check, await ground.changes(), has_base=ground.has_base)
    except WorkFailed as exc:
        return finding(check, passed=False, detail=str(exc))
    stdout: list[str] = []

    def keep(stream: str, text: str) -> None:
        if stream == "stdout":
            stdout.append(text)
        ground.log(stream, text)

    ran, _ = await run_program(check, list(argv), ground, timeout_s=time_for(check, ground), stdin=asked, log=keep)
    if not ran.passed:
        return ran
    try:
        answer = msgspec.json.decode("".join(stdout), type=Answer)
    except (msgspec.DecodeError, RecursionError) as exc:
        return replace(ran, passed=False, detail=f"plug-in {check.plugin!r} does not answer as it should: {exc}")
    passed = answer.passed and not answer.doubtful
    return replace(ran, passed=passed, doubtful=answer.doubtful, detail=answer.detail[:_MOST_DETAIL_CHARS])


def question(check: CheckPlugin, changes: tuple[Change, ...], *, has_base: bool) -> bytes:
    """What a plug-in is asked: the check as it is frozen, and the change."""
    asked: dict[str, Any] = {
        "version": VERSION,
        "check": {"plugin": check.plugin, "name": check.name, "settings": check.settings},
        "has_base": has_base,
        "has_lines": True,
        "changes": [_told(change, has_lines=True) for change in changes],
    }
    document = msgspec.json.encode(asked)
    if len(document) > MOST_ASKED_BYTES:
        few = asked | {"has_lines": False, "changes": [_told(change, has_lines=False) for change in changes]}
        document = msgspec.json.encode(few)
    return document


def _told(change: Change, *, has_lines: bool) -> dict[str, Any]:
    told = {"path": change.path, "new": change.is_new, "deleted": change.is_gone, "opaque": change.is_opaque}
    return told | {"added": change.added, "removed": change.removed} if has_lines else told

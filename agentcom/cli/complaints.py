"""The one clear message on stderr of a command that ends because something is wrong, and its exit status.

Every problem stands on its own line and names its way out. With ``--json`` the message is a problem document, as the
HTTP API answers it. Imported when there is something to say.
"""

from typing import Final

import click
import msgspec

from agentcom.cli.endings import BAD_INPUT, REFUSED, UNREACHABLE, WORK_FAILED
from protocol.api import ProblemDocument
from protocol.errors import (
    AgentComError,
    BadInput,
    Conflict,
    HubUnreachable,
    NotFound,
    Problem,
    Refused,
    StoreDamaged,
    StoreFailed,
    Unauthenticated,
    Unavailable,
)

_STATUS: Final = {WORK_FAILED: 500, BAD_INPUT: 422, UNREACHABLE: 503, REFUSED: 403}


def exit_status(error: AgentComError) -> int:
    """The exit status that tells a script what kind of error it was."""
    if isinstance(error, StoreDamaged):
        return WORK_FAILED
    if isinstance(error, BadInput | NotFound | Conflict) or _is_of_our_own_store(error):
        return BAD_INPUT
    if isinstance(error, Refused):
        return REFUSED
    if isinstance(error, StoreDamaged):
        return WORK_FAILED
    return UNREACHABLE if isinstance(error, Unavailable) else WORK_FAILED


def _is_of_our_own_store(error: AgentComError) -> bool:
    """The command is the hub, and what it was told to keep its store in cannot be used. No other hub is meant."""
    return isinstance(error, StoreFailed) and not hasattr(error, "document")


def tell(error: AgentComError, *, as_json: bool) -> int:
    """Say on stderr what is wrong; the exit status."""
    status = exit_status(error)
    if as_json:
        _say_json(_document(error, status))
    else:
        _say(_lines(error))
    return status


def tell_usage(error: click.ClickException, *, as_json: bool) -> int:
    """Say on stderr what is wrong with the command itself; the exit status."""
    if as_json:
        detail = error.format_message()
        problem = Problem("", detail)
        _say_json(ProblemDocument(title="Usage", status=400, code="usage", detail=detail, errors=(problem,)))
        return BAD_INPUT
    context = getattr(error, "ctx", None)
    hint = f"Try '{context.command_path} --help'." if isinstance(context, click.Context) else ""
    _say([f"error: {error.format_message()}", *([hint] if hint else [])])
    return BAD_INPUT


def _lines(error: AgentComError) -> list[str]:  # noqa: PLR0911 - a case a line
    if isinstance(error, BadInput):
        lines = [f"{p.path}: {p.problem}" if p.path else p.problem for p in error.problems]
        if len(lines) == 1:
            return [f"error: {lines[0]}"]
        return [f"error: {error.what} has {len(lines)} problems", *(f"  {line}" for line in lines)]
    if isinstance(error, Unauthenticated):
        return [f"error: {error}", "Give one with --token-file FILE, AGENTCOM_TOKEN or AGENTCOM_TOKEN_FILE."]
    if isinstance(error, Refused):
        return [f"error: {error}", "An admin makes a token with another role: agentcom token create --role ROLE"]
    if isinstance(error, StoreDamaged):
        return [f"error: {error}", "Nothing is served from it and nothing was changed. What helps:", *_ways(error)]
    if isinstance(error, Unavailable) and not isinstance(error, HubUnreachable) and not _is_of_our_own_store(error):
        return [f"error: {error}", "The hub is there but cannot do this now; 'agentcom doctor' tells more."]
    return [f"error: {error}"]


def _ways(error: StoreDamaged) -> list[str]:
    return [f"  {step}" for step in getattr(error, "steps", ())]


def _document(error: AgentComError, status: int) -> ProblemDocument:
    found = getattr(error, "document", None)
    if isinstance(found, ProblemDocument):
        return found
    http = 401 if isinstance(error, Unauthenticated) else _STATUS[status]
    problems = tuple(error.problems) if isinstance(error, BadInput) else ()
    return ProblemDocument(
        title=type(error).__name__,
        status=http,
        code=error.code,
        detail=str(error),
        errors=problems,
        retryable=error.retryable,
    )


def _say(lines: list[str]) -> None:
    for line in lines:
        click.echo(line, err=True)


def _say_json(document: ProblemDocument) -> None:
    click.echo(msgspec.json.encode(document).decode(), err=True)

"""Promises of :mod:`agentcom.answers`."""

import msgspec
import pytest

from agentcom.answers import error_from, value_from
from protocol import errors
from protocol.api import ProblemDocument, TaskList
from protocol.errors import AgentComError, BadInput, Problem

EXAMPLES: list[AgentComError] = [
    BadInput([Problem("a", "b"), Problem("", "c")], "task"),
    errors.Unauthenticated("no token"),
    errors.Forbidden("viewer", "submit", ("admin",)),
    errors.NotFound("task", "x"),
    errors.StaleTask("x", "1", None),
    errors.StaleAttempt("x", 1, 2, "running"),
    errors.IllegalTransition("task", "dead", "cancel", ()),
    errors.IdempotencyConflict("k"),
    errors.StoreFailed("disk is full"),
    errors.Overloaded("too much", 3.0),
    errors.VersionMismatch((1, 1), (2, 2)),
    errors.EndpointDown("ollama", "no answer"),
]


def document(error: AgentComError, status: int = 500, code: str = "") -> ProblemDocument:
    problems = tuple(error.problems) if isinstance(error, BadInput) else ()
    return ProblemDocument(
        title="x", status=status, code=code or error.code, detail=str(error), errors=problems, retryable=error.retryable
    )


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: e.code)
def test_an_error_keeps_class_code_and_words_across_the_network(error: AgentComError) -> None:
    found = error_from(document(error))

    assert isinstance(found, type(error))
    assert (str(found), found.code, found.retryable) == (str(error), error.code, error.retryable)


def test_bad_input_keeps_its_problems() -> None:
    found = error_from(document(EXAMPLES[0]))

    assert isinstance(found, BadInput)
    assert (found.problems, found.what) == ([Problem("a", "b"), Problem("", "c")], "task")


@pytest.mark.parametrize(
    "status, kind",
    [
        (400, BadInput),
        (401, errors.Unauthenticated),
        (403, errors.Refused),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (413, BadInput),
        (422, BadInput),
        (429, errors.Unavailable),
        (500, AgentComError),
        (503, errors.Unavailable),
    ],
)
def test_a_code_of_a_newer_hub_is_judged_by_its_status(status: int, kind: type[AgentComError]) -> None:
    found = error_from(ProblemDocument(title="x", status=status, code="brand_new", detail="told by the hub"))

    assert isinstance(found, kind)
    assert (found.code, str(found)) == ("brand_new", "told by the hub")


def test_a_hub_that_asks_to_wait_is_heard() -> None:
    body = msgspec.json.encode(document(EXAMPLES[9], 503))

    with pytest.raises(errors.Overloaded) as caught:
        value_from("u", 503, "application/problem+json", body, TaskList, "7")

    assert caught.value.retry_after_s == 7.0


def test_a_value_comes_back_in_its_shape() -> None:
    found = value_from("u", 200, "application/json", b'{"tasks": [], "next_cursor": null, "new": 1}', TaskList)

    assert found == TaskList(tasks=(), next_cursor=None)


@pytest.mark.parametrize(
    "status, media_type, body, words",
    [
        (200, "text/html", b"<html>", "no AgentCom hub"),
        (404, "text/html", b"<html>", "no AgentCom hub"),
        (302, "text/html", b"", "no AgentCom hub"),
        (200, "application/json", b'{"tasks": 3}', "another version"),
        (200, "application/json", b"{", "another version"),
        (400, "application/problem+json", b"{", "cannot be read"),
    ],
)
def test_what_is_no_hub_is_called_so(status: int, media_type: str, body: bytes, words: str) -> None:
    with pytest.raises(errors.HubUnreachable, match=words):
        value_from("http://h", status, media_type, body, TaskList)


def test_a_proxy_in_front_of_a_hub_that_is_away_is_worth_another_try() -> None:
    with pytest.raises(errors.Unavailable, match="502 Bad Gateway"):
        value_from("http://h", 502, "text/html", b"", TaskList)

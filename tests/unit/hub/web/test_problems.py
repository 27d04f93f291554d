import pytest

from hub.web import problems
from hub.web.problems import ForeignOrigin, InvalidJson, WrongHost
from protocol import errors
from protocol.errors import AgentComError, Problem


@pytest.mark.parametrize(
    "error, status",
    [
        (InvalidJson("x", 1, 1), 400),
        (errors.Unauthenticated("x"), 401),
        (errors.Forbidden("viewer", "tasks:submit"), 403),
        (ForeignOrigin("https://x"), 403),
        (errors.NotFound("task", "x"), 404),
        (errors.Conflict("x"), 409),
        (errors.StaleTask("t", "queued", None), 409),
        (errors.IdempotencyConflict("k"), 409),
        (WrongHost("x"), 421),
        (errors.BadInput([Problem("a", "b")]), 422),
        (errors.FrameTooLarge(2, 1), 422),
        (errors.EndpointDown("e", "x"), 502),
        (errors.Overloaded("x"), 503),
        (errors.StoreFailed("x"), 503),
        (errors.WorkspaceFailed("x"), 500),
    ],
)
def test_every_error_has_its_status(error: AgentComError, status: int) -> None:
    document = problems.document_of(error)

    assert (document.status, document.code) == (status, error.code)
    assert document.detail == str(error)
    assert document.retryable == error.retryable


def test_every_error_of_the_tree_has_a_status() -> None:
    def below(kind: type[AgentComError]) -> list[type[AgentComError]]:
        return [kind, *(one for child in kind.__subclasses__() for one in below(child))]

    assert all(any(base in problems.STATUS for base in kind.__mro__) for kind in below(AgentComError))


def test_bad_input_lists_all_its_problems() -> None:
    document = problems.document_of(errors.BadInput([Problem("a", "x"), Problem("b[0]", "y")], "task"))

    assert [problem.path for problem in document.errors] == ["a", "b[0]"]


def test_a_refusal_for_want_of_a_token_says_how_to_send_one() -> None:
    assert problems.reply_to(errors.Unauthenticated("x")).headers["WWW-Authenticate"] == 'Bearer realm="agentcom"'


@pytest.mark.parametrize("after_s, told", [(None, "2"), (0.2, "1"), (7.2, "8")])
def test_not_now_says_when(after_s: float | None, told: str) -> None:
    assert problems.reply_to(errors.Overloaded("full", after_s)).headers["Retry-After"] == told


def test_the_texts_of_the_errors_of_the_web_side_name_the_way_out() -> None:
    assert str(WrongHost("evil")) == (
        "browsers may not call this hub 'evil'; use its address or localhost, or add its origin to the hub's settings"
    )
    assert str(ForeignOrigin("https://evil")) == (
        "a browser session only works from this hub's own pages, not from https://evil; "
        "a program sends its token as a Bearer header"
    )

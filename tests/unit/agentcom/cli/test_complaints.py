"""Promises of :mod:`agentcom.cli.complaints`."""

import json

import click
import pytest

from agentcom.answers import error_from
from agentcom.cli import complaints
from protocol import errors
from protocol.api import ProblemDocument
from protocol.errors import AgentComError, BadInput, Problem


@pytest.mark.parametrize(
    "error, status",
    [
        (BadInput([Problem("a", "b")]), 2),
        (errors.NotFound("task", "x"), 2),
        (errors.IllegalTransition("task", "dead", "cancel", ()), 2),
        (errors.HubUnreachable("u", "w"), 3),
        (errors.Unauthenticated("no token"), 4),
        (errors.Forbidden("viewer", "submit"), 4),
        (errors.WorkFailed("x"), 1),
        (AgentComError("x"), 1),
        (errors.StoreFailed("cannot open the store"), 2),  # the command is the hub
    ],
)
def test_the_exit_status_tells_the_kind_of_error(error: AgentComError, status: int) -> None:
    assert complaints.exit_status(error) == status


def test_every_problem_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    complaints.tell(BadInput([Problem("--a", "x"), Problem("", "y")], "task"), as_json=False)

    assert capsys.readouterr().err == "error: task has 2 problems\n  --a: x\n  y\n"


def test_a_single_problem_takes_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    complaints.tell(BadInput([Problem("--a", "x")], "task"), as_json=False)

    assert capsys.readouterr().err == "error: --a: x\n"


def test_a_hub_that_cannot_open_its_store_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    complaints.tell(errors.StoreFailed("cannot open the store"), as_json=False)

    assert capsys.readouterr().err == "error: cannot open the store\n"


def test_a_refusal_says_how_to_get_in(capsys: pytest.CaptureFixture[str]) -> None:
    complaints.tell(errors.Unauthenticated("no token"), as_json=False)

    assert "--token-file FILE, AGENTCOM_TOKEN or AGENTCOM_TOKEN_FILE" in capsys.readouterr().err


def test_a_program_gets_a_problem_document(capsys: pytest.CaptureFixture[str]) -> None:
    complaints.tell(errors.HubUnreachable("http://h", "away"), as_json=True)

    said = json.loads(capsys.readouterr().err)
    assert (said["code"], said["status"], said["retryable"]) == ("hub_unreachable", 503, True)


def test_a_program_gets_the_hubs_own_document(capsys: pytest.CaptureFixture[str]) -> None:
    document = ProblemDocument(title="t", status=404, code="not_found", detail="no task 'x'")

    assert complaints.tell(error_from(document), as_json=True) == 2
    assert json.loads(capsys.readouterr().err)["status"] == 404


def test_wrong_usage_is_a_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert complaints.tell_usage(click.UsageError("no such option"), as_json=True) == 2
    assert json.loads(capsys.readouterr().err)["code"] == "usage"

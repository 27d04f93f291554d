"""What may be a secret and how a task names one: every problem at once, and never the value in any of them."""

import pytest

from protocol import schema
from protocol.errors import BadInput
from protocol.keystore import SecretBody, SecretUse, body_problems, use_problems
from protocol.limits import MAX_SECRET_BYTES, MAX_SECRETS
from protocol.messages import Secrets
from protocol.model import AttemptId, TaskSpec

VALUE = "hunter2-hunter2"


def told(*uses: SecretUse) -> dict[str, str]:
    return {problem.path: problem.problem for problem in use_problems(uses)}


def test_a_task_names_secrets_and_the_variables_that_they_come_in() -> None:
    spec, problems = schema.read_spec({"command": "make", "secrets": [{"name": "A"}, {"name": "B", "env": "C"}]})

    assert problems == []
    assert spec == TaskSpec(command="make", secrets=(SecretUse(name="A"), SecretUse(name="B", env="C")))
    assert [use.variable for use in spec.secrets] == ["A", "C"]


def test_every_problem_of_the_secrets_of_a_task_is_told_with_its_place() -> None:
    assert told(
        SecretUse(name="A B"), SecretUse(name="A", env="1"), SecretUse(name="B"), SecretUse(name="C", env="B")
    ) == {
        "secrets[0].name": "not the name of a secret: 'A B'",
        "secrets[1].env": "not the name of a variable: '1'",
        "secrets[3].env": "two secrets for one variable, B",
    }
    assert told(SecretUse(name="AGENTCOM_X")) == {
        "secrets[0].env": "variables that begin with AGENTCOM_ are AgentCom's own"
    }
    assert told(*(SecretUse(name=f"S{number}") for number in range(MAX_SECRETS + 1))) == {
        "secrets": "17 entries; at most 16"
    }


@pytest.mark.parametrize("value", ["A", {"name": "A"}, ["A"], [{"name": "A", "value": VALUE}], [{"env": "A"}]])
def test_what_is_no_list_of_uses_is_refused(value: object) -> None:
    spec, problems = schema.read_spec({"command": "make", "secrets": value})

    assert spec is None
    assert all(problem.path.startswith("secrets") and VALUE not in problem.problem for problem in problems)


@pytest.mark.parametrize(
    "name, body, path",
    [
        ("A", SecretBody(value="short"), "value"),
        ("A", SecretBody(value="  short    \n"), "value"),
        ("A", SecretBody(value=VALUE + "\0"), "value"),
        ("A", SecretBody(value=VALUE + "\ud800"), "value"),
        ("A", SecretBody(value=VALUE + "x" * MAX_SECRET_BYTES), "value"),
        ("1A", SecretBody(value=VALUE), "name"),
        ("A" * 65, SecretBody(value=VALUE), "name"),
        ("A-B", SecretBody(value=VALUE), "name"),
        ("A", SecretBody(value=VALUE, projects=("a/b",)), "projects[0]"),
        ("A", SecretBody(value=VALUE, projects=("p",) * 101), "projects"),
    ],
)
def test_what_can_be_no_secret_is_told_without_its_value(name: str, body: SecretBody, path: str) -> None:
    (problem,) = body_problems(name, body)

    assert problem.path == path
    assert VALUE not in problem.problem


def test_a_secret_of_any_lines_and_letters_may_be_kept() -> None:
    for value in (
        VALUE,
        "-----BEGIN X-----\nabcdefgh\n-----END X-----\n",
        "\u00e9\u4e16 \U0001f600 words",
        "x" * MAX_SECRET_BYTES,
    ):
        assert list(body_problems("A_1", SecretBody(value=value, projects=("a", "b.c")))) == []


def test_no_trace_shows_a_value() -> None:
    body, answer = SecretBody(value=VALUE), Secrets(attempt=AttemptId("s", 1, "t", 1), values={"A": VALUE})

    assert VALUE not in f"{body!r} {body} {answer!r} {answer}"
    with pytest.raises(BadInput) as caught:
        schema.read({"value": VALUE, "project": "p"}, SecretBody, "secret")
    assert VALUE not in str(caught.value)

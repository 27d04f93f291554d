"""Promises of :mod:`sidecar.core.model_calls`: which calls of work are passed on, and what of them."""

import pytest

from protocol.endpoints import EndpointKind
from sidecar.core.model_calls import asked, may_ask, passed_back, passed_on, token_in, variables

CLAUDE, OPENAI = EndpointKind.ANTHROPIC, EndpointKind.OPENAI


@pytest.mark.parametrize(
    "kind, method, rest",
    [
        (CLAUDE, "POST", "/v1/messages"),
        (CLAUDE, "POST", "/v1/messages?beta=true"),
        (CLAUDE, "POST", "/v1/messages/count_tokens"),
        (CLAUDE, "GET", "/v1/models/claude-sonnet-5-5"),
        (OPENAI, "POST", "/chat/completions"),
        (OPENAI, "POST", "/responses"),
        (OPENAI, "GET", "/models"),
    ],
)
def test_questions_to_models_are_passed_on(kind: EndpointKind, method: str, rest: str) -> None:
    assert may_ask(kind, method, rest)


@pytest.mark.parametrize(
    "kind, method, rest",
    [
        (CLAUDE, "GET", "/v1/messages"),
        (CLAUDE, "POST", "/v1/files"),
        (CLAUDE, "POST", "/v1/messages/batches"),
        (CLAUDE, "GET", "/v1/organizations/api_keys"),
        (CLAUDE, "POST", "/v1/messages/../organizations/api_keys"),
        (CLAUDE, "POST", "/v1/messages%2f..%2ffiles"),
        (CLAUDE, "POST", "/v1/messages\n"),
        (CLAUDE, "POST", "/v1/messages#x"),
        (CLAUDE, "POST", "/v1/messages?x y"),
        (CLAUDE, "POST", "@evil.example/v1/messages"),
        (CLAUDE, "POST", "//evil.example/v1/messages"),
        (CLAUDE, "GET", "/v1/models/../files"),
        (OPENAI, "POST", "/v1/messages"),
        (OPENAI, "DELETE", "/models/gpt"),
        (OPENAI, "GET", "/files"),
        (OPENAI, "POST", ""),
        (EndpointKind.OLLAMA, "POST", "/api/chat"),
    ],
)
def test_nothing_else_is(kind: EndpointKind, method: str, rest: str) -> None:
    assert not may_ask(kind, method, rest)


def test_the_endpoint_is_the_first_part_of_a_target() -> None:
    assert asked("/claude/v1/messages?beta=true") == ("claude", "/v1/messages?beta=true")
    assert asked("/claude") == ("claude", "")
    assert asked("/") == ("", "")


def test_a_token_is_found_in_the_manner_of_either_kind() -> None:
    assert token_in({"x-api-key": "t"}) == "t"
    assert token_in({"authorization": "Bearer t"}) == "t"
    assert token_in({"authorization": "Basic t"}) == ""
    assert token_in({}) == ""


def test_only_what_belongs_to_a_question_or_an_answer_is_passed() -> None:
    secret = {"x-api-key": "t", "authorization": "Bearer t", "cookie": "c", "openai-organization": "o", "host": "h"}
    assert passed_on({**secret, "content-type": "application/json", "anthropic-beta": "b"}) == {
        "content-type": "application/json",
        "anthropic-beta": "b",
    }
    answer = {"set-cookie": "c", "location": "http://evil.example", "retry-after": "1", "x-ratelimit-limit-tokens": "5"}
    assert passed_back(answer) == {"retry-after": "1", "x-ratelimit-limit-tokens": "5"}


def test_of_each_kind_the_first_endpoint_stands_in_its_own_variables() -> None:
    assert variables([("claude", CLAUDE), ("other", CLAUDE), ("local", OPENAI)], "t") == {
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:3129/claude",
        "ANTHROPIC_API_KEY": "t",
        "OPENAI_BASE_URL": "http://127.0.0.1:3129/local",
        "OPENAI_API_KEY": "t",
    }

from datetime import UTC, datetime

import pytest

from protocol.errors import EndpointBusy, EndpointDown, EndpointRefused, ModelFailed, ModelMissing, PromptTooLong
from sidecar.llm.statuses import retry_after_s, translated

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "headers, seconds",
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2020 00:00:30 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_the_wait_is_read_in_every_form_that_servers_use(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == seconds


@pytest.mark.parametrize(
    "status, kind",
    [
        (302, EndpointDown),
        (400, ModelFailed),
        (401, EndpointRefused),
        (402, EndpointRefused),
        (403, EndpointRefused),
        (404, ModelMissing),
        (408, EndpointDown),
        (413, ModelFailed),
        (422, ModelFailed),
        (429, EndpointBusy),
        (500, EndpointDown),
        (502, EndpointDown),
        (503, EndpointBusy),
        (529, EndpointBusy),
    ],
)
def test_every_status_has_its_error(status: int, kind: type[Exception]) -> None:
    assert type(translated("e", "m", status, {}, "why")) is kind


def test_a_busy_endpoint_tells_when_to_come_back() -> None:
    error = translated("claude", "m", 429, {"retry-after": "30"}, "rate limited")

    assert isinstance(error, EndpointBusy)
    assert error.retry_after_s == 30.0
    assert str(error) == "endpoint claude: HTTP 429: rate limited; it asks to come back in 30 s"


@pytest.mark.parametrize(
    "status, text",
    [
        (400, "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."),
        (400, "prompt is too long: 210000 tokens > 200000 maximum"),
        (400, "the request exceeds the available context size, try increasing it"),
        (413, "The input is too long for the model"),
    ],
)
def test_a_prompt_that_does_not_fit_is_told_apart_whatever_the_words(status: int, text: str) -> None:
    error = translated("e", "m", status, {}, text)

    assert type(error) is PromptTooLong
    assert text in str(error)
    assert "shorten it, or name fewer files" in str(error)


def test_what_a_server_tells_back_is_cut_between_words_so_that_no_half_of_a_key_is_left() -> None:
    told = translated("it", "m", 401, {}, "word " * 59 + "sk-abcdefghij tail")
    alone = translated("it", "m", 500, {}, "k" * 400)

    assert "word ..." in str(told)
    assert "sk-" not in str(told)
    assert "kk" not in str(alone)

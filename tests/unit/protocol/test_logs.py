"""The promises of log lines."""

import io
import json

import pytest
import structlog

from protocol.logs import configure, masked


@pytest.fixture(autouse=True)
def _as_before() -> object:
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize(
    "text, shown",
    [
        ("token acm_abcdefgh123 here", "token *** here"),
        ("key sk-ant-api03-abcdef", "key ***"),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer ***"),
        ("https://me:hunter2@git.example/x", "https://***@git.example/x"),
        ("task 01hzy, skate-park, a bearer of news", "task 01hzy, skate-park, a bearer of news"),
    ],
)
def test_secrets_are_told_by_their_shape(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_json_lines_hold_facts_and_no_secrets() -> None:
    stream = io.StringIO()
    configure(json=True, stream=stream)
    log = structlog.get_logger("x")
    log.info(
        "joined", token="anything", nested={"api_key": "k", "url": ["acm_abcdefgh123"]}, error=OSError("acm_abcdefgh")
    )
    log.debug("unseen")
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)

    assert (found["event"], found["level"], found["token"]) == ("joined", "info", "***")
    assert found["nested"] == {"api_key": "***", "url": ["***"]}
    assert found["error"] == "***"
    assert found["timestamp"].endswith("Z")


def test_a_trace_is_masked_too() -> None:
    stream = io.StringIO()
    configure(json=True, stream=stream)
    try:
        raise ValueError("bad token acm_abcdefgh123")
    except ValueError:
        structlog.get_logger("x").exception("broke")

    assert "acm_abcdefgh123" not in stream.getvalue()
    assert "ValueError: bad token ***" in stream.getvalue()


def test_people_get_text() -> None:
    stream = io.StringIO()
    configure(json=False, stream=stream)
    structlog.get_logger("x").warning("hub_lost", why="it is gone")

    assert "hub_lost" in stream.getvalue()
    assert "why='it is gone'" in stream.getvalue()


def test_a_secret_in_an_error_or_deep_in_a_list_is_masked_and_a_number_stays() -> None:
    text = io.StringIO()
    configure(json=True, stream=text)
    structlog.get_logger().info("odd", error=ValueError("acm_0123456789"), parts=[1, ("sk-0123456789",)])

    line = json.loads(text.getvalue())
    assert (line["error"], line["parts"]) == ("***", [1, ["***"]])


def test_what_json_can_hardly_say_is_a_line_all_the_same() -> None:
    text = io.StringIO()
    configure(json=True, stream=text)
    structlog.get_logger().info("odd", path="a\udcffb", keys={(1, 2): "x", "a": 1}, raw=b"x", when=float("nan"), s={1})

    line = json.loads(text.getvalue())
    assert line["path"] == "a\udcffb"
    assert line["keys"]["a"] == 1


@pytest.mark.parametrize("text", ["acm_0123456789", "sk-0123456789", "Bearer 0123456789", "a://b:c@d", "bearer 012345"])
def test_no_secret_lacks_the_hint_that_it_is_found_by(text: str) -> None:
    assert "***" in masked(text)

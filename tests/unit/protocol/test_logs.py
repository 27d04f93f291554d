"""The promises of log lines."""

import contextlib
import io
import json
import logging
import sys
from pathlib import Path

import pytest
import structlog

from protocol.logs import configure, masked, take_over

FULL = Path("/dev/full")


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


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_full_disk_takes_lines_and_nothing_else_and_the_next_one_says_how_many() -> None:
    log = structlog.get_logger("x")
    with FULL.open("w") as stream:
        configure(json=True, stream=stream, is_final=False)
        for _ in range(3):
            log.warning("unwritten")
        with contextlib.suppress(OSError):
            stream.close()
        log.warning("unwritten")  # to a stream that is closed
    text = io.StringIO()
    configure(json=True, stream=text, is_final=False)
    log.info("written")
    log.info("again")

    lines = [json.loads(line) for line in text.getvalue().splitlines()]
    assert [(line["event"], line.get("count")) for line in lines] == [
        ("written", None),
        ("lines_lost", 4),
        ("again", None),
    ]


class Mute:
    """Nothing can be said of it."""

    def __str__(self) -> str:
        raise LookupError("sk-0123456789")

    __repr__ = __str__


@pytest.mark.parametrize(
    "said, event, told",
    [
        (("%d of %s", "acm_0123456789"), "library_said", "'%d of %s', with arguments that do not fit: TypeError"),
        ((Mute(),), "line_not_written", None),
    ],
)
def test_a_library_whose_words_do_not_fit_fails_of_nothing_and_tells_no_secret(
    said: tuple[object, ...], event: str, told: str | None
) -> None:
    text = io.StringIO()
    configure(json=True, stream=text)
    library = logging.Logger("lib.of.others")  # noqa: LOG001 - nobody else has it
    before = logging.root.handlers[:], logging.root.level, sys.excepthook
    try:
        take_over()
        library.handlers = logging.root.handlers[:]
        library.warning(*said)
    finally:
        logging.root.handlers[:], sys.excepthook = before[0], before[2]
        logging.root.setLevel(before[1])
        logging.captureWarnings(capture=False)

    (line,) = map(json.loads, text.getvalue().splitlines())
    assert (line["event"], line.get("message")) == (event, told)
    assert "0123456789" not in text.getvalue()

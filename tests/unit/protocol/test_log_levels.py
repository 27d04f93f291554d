"""The promises of levels that change while a process runs, and of what every line is about."""

import asyncio
import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from protocol import logs
from protocol.log_levels import LogLevel, known_levels, of_sidecars
from protocol.redaction import Redactor


@pytest.fixture
def text() -> Iterator[io.StringIO]:
    made = io.StringIO()
    logs.configure(json=True, stream=made, is_final=False)  # loggers of modules outlive this test
    yield made
    logs.set_levels({})
    structlog.reset_defaults()


def lines(text: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.getvalue().splitlines()]


def test_a_level_counts_at_once_for_a_component_and_what_lies_beneath(text: io.StringIO) -> None:
    deep, other = structlog.get_logger("hub.web.guard"), structlog.get_logger("hub.website")
    for log in (deep, other):
        log.debug("before")
    logs.set_levels({"hub.web": LogLevel.DEBUG})
    for log in (deep, other):
        log.debug("during")
    logs.set_levels({})
    deep.debug("after")

    assert [(line["event"], line["component"]) for line in lines(text)] == [("during", "hub.web.guard")]


def test_the_longest_name_that_was_given_a_level_counts(text: io.StringIO) -> None:
    logs.set_levels({"hub": LogLevel.ERROR, "hub.store": LogLevel.INFO})
    structlog.get_logger("hub.store.sqlite").info("heard")
    structlog.get_logger("hub.services.dispatch").warning("unheard")
    structlog.get_logger("hub.services.dispatch").error("heard too")

    assert [line["event"] for line in lines(text)] == ["heard", "heard too"]


def test_only_what_is_meant_changes_its_level(text: io.StringIO) -> None:
    logs.set_levels({"hub": LogLevel.DEBUG, "sidecar.link": LogLevel.DEBUG})
    logs.set_levels({}, "sidecar")
    structlog.get_logger("sidecar.link").debug("unheard")
    structlog.get_logger("hub.app").debug("heard")

    assert [line["event"] for line in lines(text)] == ["heard"]


def test_requests_have_lines_only_if_somebody_wants_them(text: io.StringIO) -> None:
    structlog.get_logger(logs.ACCESS).info("unheard")
    logs.set_levels({logs.ACCESS: LogLevel.INFO})
    structlog.get_logger(logs.ACCESS).info("heard")

    assert [line["event"] for line in lines(text)] == ["heard"]


async def test_what_a_task_is_about_stands_in_its_lines_and_in_those_of_the_tasks_it_starts(text: io.StringIO) -> None:
    log = structlog.get_logger("x")

    async def inner() -> None:
        log.info("inner", epoch=3)

    with logs.about(task="01t", epoch=2):
        log.info("outer")
        started = asyncio.create_task(inner())
    await started
    log.info("elsewhere")

    assert [(line["event"], line.get("task"), line.get("epoch")) for line in lines(text)] == [
        ("outer", "01t", 2),
        ("inner", "01t", 3),
        ("elsewhere", None, None),
    ]


def test_what_libraries_say_is_a_line_without_secrets(text: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    before, level = logging.root.handlers[:], logging.root.level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    logs.hide(Redactor(["correct-horse-battery"]), "test")
    try:
        logs.take_over()
        library = logging.getLogger("lib.of.others")
        library.info("unheard")
        library.warning("login with %s failed", "correct-horse-battery")
        logs.set_levels({"lib": LogLevel.DEBUG})
        library.debug("token acm_abcdefgh123")
        try:
            raise ValueError("acm_abcdefgh123")
        except ValueError as exc:
            sys.excepthook(ValueError, exc, exc.__traceback__)
    finally:
        logs.hide(None, "test")
        logging.captureWarnings(capture=False)
        logging.root.handlers[:] = before
        logging.root.setLevel(level)

    first, second, third = lines(text)
    assert (first["event"], first["component"], first["level"]) == ("library_said", "lib.of.others", "warning")
    assert first["message"] == "login with [secret] failed"
    assert (second["message"], second["level"]) == ("token ***", "debug")
    assert (third["event"], third["error"]) == ("crashed", "ValueError")
    assert "acm_abcdefgh" not in text.getvalue()


def test_a_line_below_its_level_is_not_put_together(text: io.StringIO) -> None:
    class Loud:
        def __str__(self) -> str:
            raise AssertionError("nobody asked")

    log = structlog.get_logger("x")
    log.debug("unheard", what=Loud())

    assert text.getvalue() == ""


def test_sidecars_are_told_their_own_levels_in_words_and_leave_words_they_do_not_know() -> None:
    levels = {"hub.web": LogLevel.DEBUG, "sidecar": LogLevel.ERROR, "sidecars": LogLevel.INFO}

    assert of_sidecars(levels) == {"sidecar": "error"}
    assert known_levels({"sidecar": "error", "sidecar.link": "trace"}) == {"sidecar": LogLevel.ERROR}

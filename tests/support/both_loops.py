"""Tests that run on the event loop of a hub, and on the one that it has where that is not installed."""

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The hub runs on uvloop, which reads and closes in its own way; the usual loop is what it has elsewhere."""

    @functools.wraps(test)
    def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], **given: Any) -> None:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(test(**given))

    asked = inspect.signature(test)
    more = inspect.Parameter("loop_factory", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = asked.replace(parameters=[more, *asked.parameters.values()])  # type: ignore[attr-defined]  # pytest reads it
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    both: Callable[..., None] = pytest.mark.parametrize("loop_factory", loops, ids=["asyncio", "uvloop"])(run)
    return both

"""What all tests have in common."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import structlog

_HERE: Final = Path(__file__).parent
_OF_PROCESSES: Final = frozenset({"browser", "e2e", "faults", "integration"})


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked ``soak`` unless it was asked for.

    And where every change is judged, give a test of real processes that failed one more try, and name it at the end. On
    a shared machine a process can be stopped for longer than any test waits. Such a test is mended, not lived with: the
    last lines of a run name it (``RERUN``). At home nothing is tried again.
    """
    if "soak" not in config.option.markexpr:
        long = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("soak")]
    if os.environ.get("CI") != "true":
        return
    for item in items:
        if item.path.relative_to(_HERE).parts[0] in _OF_PROCESSES:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Commands that a test runs within its own process say how to log; the next test is not to inherit it."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()

"""Simulated hubs and sidecars say nothing: the trace tells more."""

from collections.abc import Iterator

import pytest
import structlog

from tests.simulation.__main__ import quiet


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = structlog.get_config()
    quiet()
    yield
    structlog.configure(**before)

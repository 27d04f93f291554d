"""What several files here ask for."""

import pytest

from tests.support.short_ways import watch_ways


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each submission that could go the short way did."""
    return watch_ways(monkeypatch)

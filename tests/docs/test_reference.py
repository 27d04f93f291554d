"""The pages of the reference that are made from the code tell what the code does."""

from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.events import EventKind
from tests.docs import source
from tests.docs.reference import PAGES


@pytest.mark.parametrize("place, page", PAGES.items(), ids=lambda each: each.stem if isinstance(each, Path) else "")
def test_the_page_is_the_one_that_the_code_makes(place: Path, page: Callable[[], str]) -> None:
    assert place.read_text("utf-8") == page(), "run: python -m tests.docs"


def test_every_event_says_what_happened() -> None:
    told = source.remarks(EventKind)

    assert [kind.name for kind in EventKind if not told.get(kind.name)] == []

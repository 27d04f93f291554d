"""The pages of the reference that are made from the code tell what the code does."""

from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.events import EventKind
from tests.docs import metrics, runbooks, source
from tests.docs.reference import PAGES as OF_REFERENCE

PAGES = {**OF_REFERENCE, metrics.PAGE: metrics.page, runbooks.PAGE: runbooks.page}


@pytest.mark.parametrize("place, page", PAGES.items(), ids=lambda each: each.stem if isinstance(each, Path) else "")
def test_the_page_is_the_one_that_the_code_makes(place: Path, page: Callable[[], str]) -> None:
    assert place.read_text("utf-8") == page(), "run: python -m tests.docs"


def test_every_metric_says_what_it_is() -> None:
    """A name of ours, and a text: what people look up has to be there."""
    rows = [line.split(" | ") for line in metrics.PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]

    assert len(rows) > 60
    assert [row for row in rows if not row[0].startswith("| `agentcom_") or len(row) != 4 or row[3] == " |"] == []
    assert len({row[0] for row in rows}) == len(rows)


def test_every_event_says_what_happened() -> None:
    told = source.remarks(EventKind)

    assert [kind.name for kind in EventKind if not told.get(kind.name)] == []

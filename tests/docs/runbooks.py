"""The runbooks as the dashboard shows them: a copy within its package, which others may build without the pages."""

from typing import Final

from tests.docs.source import REFERENCE

SOURCE: Final = REFERENCE.parent / "operate" / "runbooks.md"
PAGE: Final = REFERENCE.parents[1] / "dashboard" / "static" / "runbooks.md"


def page() -> str:
    """What is written there."""
    return SOURCE.read_text("utf-8")

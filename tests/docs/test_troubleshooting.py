"""What the page of symptoms quotes is what the programs say: whoever searches for a message finds it there."""

import re
from functools import cache
from typing import Final

import pytest

from tests.docs.commands import ROOT
from tests.docs.test_house import PACKAGES

PAGE: Final = (ROOT / "docs" / "operate" / "troubleshooting.md").read_text("utf-8")
QUOTED: Final = sorted(
    {
        quote
        for line in PAGE.splitlines()
        if line.startswith("| ")
        for quote in re.findall(r"`([^`]+)`", line.split(" | ")[0])
    }
)


@cache
def source() -> str:
    """All that our programs could say."""
    files = (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return "\n".join(path.read_text("utf-8") for path in files)


@pytest.mark.parametrize("quote", QUOTED)
def test_what_is_quoted_is_said(quote: str) -> None:
    pieces = [piece for piece in re.split(r"\s*\.\.\.\s*", quote) if piece]

    assert [piece for piece in pieces if piece not in source()] == []

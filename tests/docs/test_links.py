"""Every link of the pages leads to a page, and to a place on it, that is there; so does what the code names of them.

``mkdocs build --strict`` looks at what lies in ``docs``; this looks at all that people read in the repository.
"""

import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import markdown
import pytest

from tests.docs.commands import ROOT
from tests.docs.test_house import tracked_files

EXTENSIONS: Final = ["attr_list", "tables", "toc", "pymdownx.superfences"]
PAGES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_NAMED: Final = re.compile(r"\b(docs/[\w./-]+\.md)(?:#([\w-]+))?")
_DECISION: Final = re.compile(r"\bdocs/decisions/(\d{4})\b(?![\w-]*\.md)")


class _Page(HTMLParser):
    """What a page links to, and the places on it that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(markdown.markdown(text, extensions=EXTENSIONS))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the base calls it
        found = {name: value or "" for name, value in attrs}
        self.links += [found[name] for name in ("href", "src") if name in found]
        self.places |= {found[name] for name in ("id", "name") if name in found}


@cache
def read(page: Path) -> _Page:
    return _Page(page.read_text("utf-8"))


def wrong_with(page: Path, link: str) -> str:
    """What is wrong with a link of a page; empty if nothing is."""
    parts = urlsplit(link)
    if parts.scheme:
        return "" if parts.scheme == "https" and parts.hostname else f"{link}: not an address of https"
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.exists():
        return f"{link}: not there"
    if parts.fragment and parts.fragment not in read(target).places:
        return f"{link}: no such place"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [wrong for link in read(page).links if (wrong := wrong_with(page, link))] == []


def test_a_link_that_leads_nowhere_is_found() -> None:
    page = ROOT / "README.md"

    assert wrong_with(page, "docs/nothing.md") == "docs/nothing.md: not there"
    assert wrong_with(page, "docs/index.md#nowhere") == "docs/index.md#nowhere: no such place"
    assert wrong_with(page, "#nowhere") == "#nowhere: no such place"
    assert wrong_with(page, "http://example.org/") == "http://example.org/: not an address of https"
    assert wrong_with(page, "docs/index.md") == wrong_with(page, "https://example.org/x") == ""


def test_every_page_that_the_code_names_is_there() -> None:
    lost = set()
    for path in tracked_files():
        if path.suffix not in {".py", ".js", ".toml", ".sql", ".yaml", ".sh", ".json"} or {"vendor", "tests"} & {
            *path.parts
        }:
            continue
        text = path.read_text("utf-8")
        for name, place in _NAMED.findall(text):
            page = ROOT / name
            if not page.exists() or (place and place not in read(page).places):
                lost.add(f"{path.relative_to(ROOT)}: {name}{place and '#'}{place}")
        lost |= {
            f"{path.relative_to(ROOT)}: decision {number}"
            for number in _DECISION.findall(text)
            if not list((ROOT / "docs" / "decisions").glob(f"{number}-*.md"))
        }

    assert lost == set()


def test_every_page_can_be_found_in_the_navigation() -> None:
    """In the order of need; a page that is not in it fails the build, too."""
    nav = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:")[2]
    listed = re.findall(r"[\w/-]+\.md", nav)

    there = sorted(page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md"))
    assert sorted(listed) == there

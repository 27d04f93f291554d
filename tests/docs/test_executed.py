"""Every command of the pages does what its page says: typed page by page, in order, as a reader would.

What cannot be run here has its excuse in ``EXCUSED``; a command has the one or the other.
"""

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Final

import pytest

from tests.docs.commands import programs, said
from tests.docs.reader import Reader, reader
from tests.docs.scenes import SCENES
from tests.docs.test_commands import EXCUSED

pytestmark = pytest.mark.timeout(900)  # many commands, each a process: what a busy machine needs
BLOCKS: Final = [each for each in said() if each.is_block]
RUN: Final = [each for each in BLOCKS if not any(re.match(shape, each.text) for shape in EXCUSED)]
PAGES: Final = sorted({each.page for each in RUN})
FRAGMENTS: Final = {"docs/how-to/providers.md": "the interface that a provider has, in the module's own words"}
"""Pages whose Python is no program."""
PROGRAMS: Final = [(page, text) for page, text in programs() if page not in FRAGMENTS]


@pytest.fixture(scope="module")
def ann(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with reader(tmp_path_factory.mktemp("ann")) as found:
        yield found


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_does_what_it_says(ann: Reader, page: str) -> None:
    with ann.turn(page):
        names = SCENES.get(page, lambda _: {})(ann)
        for _, block in groupby((each for each in RUN if each.page == page), lambda each: each.block):
            for each in block:
                ann.obeys(each, names)
            ann.end()


@pytest.mark.parametrize("page, text", PROGRAMS, ids=[page for page, _ in PROGRAMS])
def test_every_program_of_the_pages_runs(ann: Reader, page: str, text: str) -> None:
    with ann.turn(f"{page} in Python"):
        ann.types("agentcom audit export audit.jsonl")
        (ann.at / "program.py").write_text(text)
        done = ann.types("python program.py")

    assert done.status == 0, f"{text}\n{done}"
    assert "None" not in done.out.split()[:1]


def test_most_commands_are_run() -> None:
    """An excuse is the exception."""
    assert len(RUN) > 2 * (len(BLOCKS) - len(RUN))

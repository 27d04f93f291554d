"""The commands that the documentation tells people to type, read out of its pages."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted(page for page in (ROOT / "docs").rglob("*.md") if page.name != "cli.md"),
)
"""All but the one that is written from the commands themselves."""
_FENCE: Final = re.compile(
    r"^(?P<indent> *)```(?P<kind>[a-zA-Z]*)\n(?P<body>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL
)
_INLINE: Final = re.compile(r"`(agentcom [^`]+)`")
_PROMPT: Final = re.compile(r"^(?:\w+)?\$ +")
_SHELL: Final = frozenset({"sh", "bash", "console"})


@dataclass(frozen=True, slots=True)
class Said:
    """A command as a page says it, without its remark.

    Attributes:
        block: which of the page's blocks it stands in, from 1; 0: within a sentence.
        fails: the page shows that it ends with an error.
    """

    page: str
    text: str
    block: int = 0
    fails: bool = False

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"

    @property
    def is_block(self) -> bool:
        """Whether it is printed as a line to type, not named within a sentence."""
        return self.block > 0

    @property
    def words(self) -> list[str]:
        """As a shell reads them."""
        return shlex.split(self.text, comments=True)


def said() -> list[Said]:
    """All commands of all pages, in their order."""
    found: list[Said] = []
    for page in PAGES:
        name, text = page.relative_to(ROOT).as_posix(), page.read_text("utf-8")
        for number, block in enumerate(_FENCE.finditer(text), 1):
            lines = _joined(block["body"])
            if block["kind"] in _SHELL or (not block["kind"] and _is_commands(block["body"])):
                told = _commands(lines, has_output=block["kind"] == "console")
                found += [Said(name, command, number, fails) for command, fails in told]
        plain = _FENCE.sub("", text)
        found += [Said(name, " ".join(each[1].split())) for each in _INLINE.finditer(plain)]
    return found


def _is_commands(body: str) -> bool:
    """Whether a block of no language is one of commands: others show output, or a drawing."""
    return all(line.startswith(("agentcom ", "AGENTCOM_")) for line in body.splitlines() if line.strip())


def _joined(body: str) -> list[str]:
    """Lines that go on in the next one as one."""
    text = re.sub(r"\\\n\s*", "", body)
    return re.sub(r"&&\n\s*", "&& ", text).splitlines()


def _commands(lines: list[str], *, has_output: bool) -> Iterator[tuple[str, bool]]:
    """Each command, and whether what the page prints below it is an error."""
    for place, line in enumerate(lines):
        command = line.strip()
        if has_output and not _PROMPT.match(command):
            continue
        command = _PROMPT.sub("", command)
        if command and not command.startswith("#"):
            fails = has_output and lines[place + 1 : place + 2] != [] and lines[place + 1].startswith("error: ")
            yield re.sub(r"\s+#\s.*$", "", command).rstrip(), fails


def programs() -> list[tuple[str, str]]:
    """The programs in Python that pages show, each with its page."""
    return [
        (page.relative_to(ROOT).as_posix(), block["body"])
        for page in PAGES
        for block in _FENCE.finditer(page.read_text("utf-8"))
        if block["kind"] == "python"
    ]

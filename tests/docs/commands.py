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
    """A command as a page says it, without its remark."""

    page: str
    text: str
    is_block: bool = True

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"

    @property
    def words(self) -> list[str]:
        """As a shell reads them."""
        return shlex.split(self.text, comments=True)


def said() -> list[Said]:
    """All commands of all pages, in their order."""
    found: list[Said] = []
    for page in PAGES:
        name, text = page.relative_to(ROOT).as_posix(), page.read_text("utf-8")
        for block in _FENCE.finditer(text):
            lines = _joined(block["body"])
            if block["kind"] in _SHELL or (not block["kind"] and _is_commands(block["body"])):
                found += [Said(name, command) for command in _commands(lines, has_output=block["kind"] == "console")]
        plain = _FENCE.sub("", text)
        found += [Said(name, " ".join(each[1].split()), is_block=False) for each in _INLINE.finditer(plain)]
    return found


def _is_commands(body: str) -> bool:
    """Whether a block of no language is one of commands: others show output, or a drawing."""
    return all(line.startswith(("agentcom ", "AGENTCOM_")) for line in body.splitlines() if line.strip())


def _joined(body: str) -> list[str]:
    """Lines that go on in the next one as one."""
    text = re.sub(r"\\\n\s*", "", body)
    return re.sub(r"&&\n\s*", "&& ", text).splitlines()


def _commands(lines: list[str], *, has_output: bool) -> Iterator[str]:
    for line in lines:
        command = line.strip()
        if has_output and not _PROMPT.match(command):
            continue
        command = _PROMPT.sub("", command)
        if command and not command.startswith("#"):
            yield re.sub(r"\s+#\s.*$", "", command).rstrip()

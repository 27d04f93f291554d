"""Look into files that git takes for no text: one NUL byte, or two bytes a character, is enough for that.

Pure. Who reads the files is ``sidecar/checks/changes.py``.
"""

import codecs
from typing import Final

SOURCES: Final = (
    "*.py", "*.pyi", "*.js", "*.jsx", "*.mjs", "*.cjs", "*.ts", "*.tsx", "*.go", "*.rs", "*.c", "*.h", "*.cc", "*.cpp",
    "*.hpp", "*.java", "*.kt", "*.cs", "*.rb", "*.php", "*.sh", "*.swift", "*.scala", "*.sql",
)  # fmt: skip
"""What has to be text."""

_WIDE: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UNWRITTEN: Final = bytes({*range(1, 32), 127} - set(b"\t\n\v\f\r\x1b"))
"""Characters that nobody writes."""
_LEAST_SHARE: Final = 100
"""One in so many of these, and it is no text."""


def texts(text: str) -> tuple[str, ...]:
    """What a search has to look through: a text as it stands, and without the NULs between its characters."""
    return (text, text.replace("\0", "")) if "\0" in text else (text,)


def lines_of(content: bytes) -> tuple[tuple[int, str], ...] | None:
    """The lines of a text with their numbers, whatever is between its characters; ``None``: it is no text."""
    if content.startswith(_WIDE):
        return _numbered(content.decode("utf-16", errors="replace"))
    bare = content.replace(b"\0", b"")
    unwritten = len(bare) - len(bare.translate(None, _UNWRITTEN))
    if unwritten * _LEAST_SHARE > len(bare):
        return None
    return _numbered(bare.decode(errors="replace"))


def _numbered(text: str) -> tuple[tuple[int, str], ...]:
    return tuple(enumerate(text.splitlines(), start=1))

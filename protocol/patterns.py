"""Which paths people mean: patterns of names, the same in checks and in the rules of projects. Pure."""

import re
from collections.abc import Iterable
from functools import lru_cache


def matches(path: str, patterns: Iterable[str]) -> str:
    """The first pattern that ``path`` fits, empty if none.

    ``*`` and ``?`` stay within a folder, ``**`` goes through any number of them; a pattern without a slash means the
    name in any folder, one that ends with a slash all that is below.
    """
    return next((pattern for pattern in patterns if _glob(pattern).fullmatch(path)), "")


@lru_cache(4_096)
def _glob(pattern: str) -> re.Pattern[str]:
    text = pattern.removeprefix("./")
    if text.endswith("/"):
        text += "**"
    if "/" not in text:
        text = f"**/{text}"
    parts, at = [], 0
    while at < len(text):
        if text.startswith("**/", at):
            parts.append("(?:.*/)?")
            at += 3
        elif text.startswith("**", at):
            parts.append(".*")
            at += 2
        else:
            parts.append({"*": "[^/]*", "?": "[^/]"}.get(text[at]) or re.escape(text[at]))
            at += 1
    return re.compile("".join(parts), re.DOTALL)

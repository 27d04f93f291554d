"""SQL by name: ``sql/<dialect>/*.sql`` holds queries under ``-- name:`` lines, here they become a dictionary."""

import re
from functools import cache
from importlib import resources
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


@cache
def queries(dialect: str) -> dict[str, str]:
    """All queries of a dialect.

    Raises:
        ValueError: a name is there twice, or a query is empty.
    """
    found: dict[str, str] = {}
    for file in sorted(resources.files("hub.store").joinpath("sql", dialect).iterdir(), key=lambda f: f.name):
        if not file.name.endswith(".sql"):
            continue
        parts = _NAME.split(file.read_text(encoding="utf-8"))
        for name, text in zip(parts[1::2], parts[2::2], strict=True):
            lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
            query = "\n".join(lines).strip().removesuffix(";")
            if name in found or not query:
                message = f"{file.name}: query {name!r} is {'there twice' if name in found else 'empty'}"
                raise ValueError(message)
            found[name] = query
    return found


def migrations(dialect: str) -> list[tuple[int, str, str]]:
    """Numbered schema changes ``(number, name, script)`` in order.

    Raises:
        ValueError: the numbers are not 1, 2, 3, ...
    """
    folder = resources.files("hub.store").joinpath("sql", dialect, "migrations")
    found = sorted(
        (int(file.name.split("_", 1)[0]), file.name, file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if file.name.endswith(".sql")
    )
    if [number for number, _, _ in found] != list(range(1, len(found) + 1)):
        message = f"migrations are not numbered 1 to {len(found)}: {[name for _, name, _ in found]}"
        raise ValueError(message)
    return found

"""SQL by name: ``sql/<dialect>/*.sql`` holds queries under ``-- name:`` lines, here they become a dictionary."""

import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

_NAME: Final = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


@cache
def queries(dialect: str) -> dict[str, str]:
    """All queries of a dialect."""
    return parsed(_scripts(resources.files("hub.store").joinpath("sql", dialect)))


def migrations(dialect: str) -> list[tuple[int, str, str]]:
    """Numbered schema changes ``(number, name, script)`` in order."""
    return in_order(_scripts(resources.files("hub.store").joinpath("sql", dialect, "migrations")))


def parsed(files: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The queries of files ``(name, text)``, without their comments.

    Raises:
        ValueError: a name is there twice, or a query is empty.
    """
    found: dict[str, str] = {}
    for file, text in files:
        parts = _NAME.split(text)
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            lines = (line for line in body.splitlines() if not line.lstrip().startswith("--"))
            query = "\n".join(lines).strip().removesuffix(";")
            if name in found or not query:
                message = f"{file}: query {name!r} is {'there twice' if name in found else 'empty'}"
                raise ValueError(message)
            found[name] = query
    return found


def in_order(files: Iterable[tuple[str, str]]) -> list[tuple[int, str, str]]:
    """Files ``(0001_what.sql, script)`` by their numbers.

    Raises:
        ValueError: the numbers are not 1, 2, 3, ...
    """
    found = sorted((int(name.split("_", 1)[0]), name, script) for name, script in files)
    if [number for number, _, _ in found] != list(range(1, len(found) + 1)):
        message = f"migrations are not numbered 1 to {len(found)}: {[name for _, name, _ in found]}"
        raise ValueError(message)
    return found


def _scripts(folder: Traversable) -> list[tuple[str, str]]:
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [(file.name, file.read_text(encoding="utf-8")) for file in files]

"""What commands print: JSON for programs, tables on a terminal, plain columns through a pipe.

Tables are drawn by rich, which is imported only where one is drawn; it leaves colours out where ``NO_COLOR`` is set. A
state is always a word, colour only helps to find it.
"""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click

_STYLES: Final = {
    "completed": "green",
    "running": "cyan",
    "verifying": "cyan",
    "working": "cyan",
    "assigned": "cyan",
    "idle": "green",
    "up": "green",
    "ok": "green",
    "failed": "bold red",
    "dead": "bold red",
    "down": "bold red",
    "fail": "bold red",
    "offline": "dim",
    "cancelled": "dim",
    "blocked": "yellow",
    "waiting": "yellow",
    "draining": "yellow",
    "degraded": "yellow",
    "warn": "yellow",
}
_SENTENCES: Final = frozenset(
    {"title", "reason", "why", "found", "fix", "capabilities", "models", "detail", "value", "gpu", "agents"}
)
_MINUTE_S: Final = 60
_HOUR_S: Final = 3_600
_DAY_S: Final = 86_400


def say_json(value: Any) -> None:  # noqa: ANN401 - any view
    """``value`` as indented JSON on stdout."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def say_line_of_json(value: Any) -> None:  # noqa: ANN401 - any view
    """``value`` as one line of JSON on stdout, at once."""
    import msgspec

    click.echo(msgspec.json.encode(value).decode())


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str = "") -> None:
    """Rows under a head; ``empty`` is said (on stderr) if there are none."""
    if not rows and empty:
        click.echo(empty, err=True)
    elif sys.stdout.isatty():
        _draw(columns, rows)
    else:
        _align(columns, rows)


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, header_style="bold", pad_edge=False)
    filled = [n for n in range(len(columns)) if any(row[n] for row in rows)]
    for n in filled:
        # Sentences give way first; names and states stay whole.
        drawn.add_column(columns[n], no_wrap=columns[n] not in _SENTENCES, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(printable(row[n]), style=_STYLES.get(row[n], "")) for n in filled))
    Console(highlight=False).print(drawn)


def _align(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [tuple(columns), *(tuple(printable(cell) for cell in row) for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def fields(pairs: Mapping[str, str]) -> None:
    """Names and values, one a line; empty values are left out."""
    shown = {name: value for name, value in pairs.items() if value}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        click.echo(f"{name.ljust(width)}  {printable(value)}")


def printable(text: str) -> str:
    """``text`` in one line, without what moves a terminal's cursor: titles and reasons are other people's words."""
    return "".join(c if c.isprintable() else " " for c in text)


def harmless(text: str) -> str:
    """``text`` with its lines and tabs, without other control characters, for output of tasks on a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "" for c in text)


def duration(seconds: float | None) -> str:
    """``0.42 s``, ``12.3 s``, ``2m05s``, ``3h02m``; empty for ``None``."""
    if seconds is None:
        return ""
    if seconds < _MINUTE_S:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"  # noqa: PLR2004 - three digits
    whole = round(seconds)
    if whole < _HOUR_S:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def age(at: datetime | None, now: datetime | None = None) -> str:
    """How long ago: ``4s``, ``12m``, ``3h``, ``2d``; empty for ``None``."""
    if at is None:
        return ""
    return _short(((now or datetime.now(UTC)) - at).total_seconds())


def left(until: datetime | None, now: datetime | None = None) -> str:
    """How long still, as :func:`age` says it; empty for ``None``."""
    return "" if until is None else _short((until - (now or datetime.now(UTC))).total_seconds())


def _short(exactly_s: float) -> str:
    seconds = max(0, round(exactly_s))
    for unit_s, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "m")):
        if seconds >= unit_s:
            return f"{seconds // unit_s}{unit}"
    return f"{seconds}s"


def size(count_bytes: float | None) -> str:
    """``512 B``, ``1.5 GiB``; empty for ``None``."""
    if count_bytes is None:
        return ""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count_bytes < 1024:  # noqa: PLR2004 - the next unit
            return f"{count_bytes:.0f} {unit}" if unit == "B" else f"{count_bytes:.1f} {unit}"
        count_bytes /= 1024
    return f"{count_bytes:.1f} TiB"


def verdict(verified: bool | None) -> str:  # noqa: FBT001 - the field of the contract
    """``verified`` in words: only checks make it yes or no."""
    return "unverified" if verified is None else "verified" if verified else "not verified"

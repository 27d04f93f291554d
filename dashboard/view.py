"""What live pages show: tables of rows folded from looks at the hub, and what changed since a page last heard.

Pure: takes rows and events, returns data; asks nobody and reads no clock. Rows are the truth, events only tell that
it is worth looking again, so a page that missed something is right again after the next look. All pages share one
board: a look is folded once, however many people watch. ``hub/web/dashboard.py`` feeds it and sends the changes;
``static/store.js`` applies them.
"""

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Row = Mapping[str, Any]
Tables = Mapping[str, Mapping[str, Row]]
"""Rows by table and key. Every row of a table has the same fields."""
Changes = dict[str, dict[str, dict[str, Any] | None]]
"""By table and key the fields that differ, or ``None`` for a row that is gone."""

_PLACE: Final = re.compile(r"([0-9a-f]{1,16}-[0-9]{1,15})?(?:\.([0-9]{1,19}))?")
_MAX_SEQ: Final = 2**63 - 1
EVENTS_KEPT: Final = 100
_DIGITS: Final = 16
_WORTH_IT: Final = 3
STEPS_KEPT: Final = 256
"""Looks that a page may have missed; behind that it gets everything."""


@dataclass(slots=True)
class Change:
    """What a page needs to be up to date.

    ``events``: the new ones, oldest first.
    """

    rows: Changes = field(default_factory=dict)
    events: list[Row] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.rows or self.events)

    def then(self, later: "Change") -> "Change":
        """Both, one after the other."""
        rows = {table: dict(changed) for table, changed in self.rows.items()}
        for table, changed in later.rows.items():
            mine = rows.setdefault(table, {})
            for key, fields in changed.items():
                before = mine.get(key)
                # A row that came back is whole, so nothing of the one that was gone shines through.
                mine[key] = {**before, **fields} if before and fields is not None else fields
        return Change(rows, [*self.events, *later.events][-EVENTS_KEPT:])


@dataclass(slots=True)
class Place:
    """Where a page is that follows a log too: one id of one stream for both, ``BOARD.LOG``, from which both resume.

    ``board``: its position on the board; empty: it has heard nothing. ``log``: number of the last piece; ``None``: none
    of the log that it follows now. A page that follows no log, or knows no such ids, has the first half alone.
    """

    board: str = ""
    log: int | None = None

    def __str__(self) -> str:
        return self.board if self.log is None else f"{self.board}.{self.log}"

    @classmethod
    def read(cls, text: str) -> "Place":
        """What a page says; what no board and no log ever said is no place."""
        if (found := _PLACE.fullmatch(text)) is None:
            return cls()
        log = None if found[2] is None or int(found[2]) > _MAX_SEQ else int(found[2])
        return cls(found[1] or "", log)


class Board:
    """The page at one moment, and the way there.

    ``boot`` names this board: a page that knows another one (of the hub before its restart) gets everything.
    """

    def __init__(self, boot: str) -> None:
        self._boot, self._version = boot, 0
        self._tables: dict[str, dict[str, Row]] = {}
        self._events: deque[Row] = deque(maxlen=EVENTS_KEPT)
        self._steps: deque[Change] = deque(maxlen=STEPS_KEPT)

    @property
    def position(self) -> str:
        """Where a page is that has heard everything."""
        return f"{self._boot}-{self._version}"

    @property
    def newest_event(self) -> int:
        """Sequence number of the newest event that the board has; 0: it has none."""
        return int(self._events[-1]["seq"]) if self._events else 0

    def look(self, tables: Tables, events: Sequence[Row] = ()) -> bool:
        """Take in another look; whether anything is new. Tables that are not named stay as they are.

        ``events`` come oldest first; those that the board has already are passed over.
        """
        newest = self.newest_event
        step = Change(events=[event for event in events if event["seq"] > newest])
        for table, rows in tables.items():
            changed = _differences(self._tables.get(table, {}), rows)
            if changed:
                step.rows[table] = changed
            self._tables[table] = dict(rows)
        self._events.extend(step.events)
        if step:
            self._steps.append(step)
            self._version += 1
        return bool(step)

    def remembers(self, position: str) -> bool:
        """Whether it knows what a page has missed that is at ``position``."""
        return 0 <= self._missed(position) <= len(self._steps)

    def since(self, position: str) -> tuple[Change, bool]:
        """What has changed behind ``position``, and whether that is everything there is (the page begins anew)."""
        if not self.remembers(position):
            return self._whole(), True
        missed = self._missed(position)
        return _joined(list(self._steps)[len(self._steps) - missed :]), False

    def _missed(self, position: str) -> int:
        """Looks behind ``position``; negative: it is none of this board."""
        boot, _, version = position.rpartition("-")
        is_ours = boot == self._boot and version.isascii() and version.isdecimal() and len(version) < _DIGITS
        return self._version - int(version) if is_ours else -1

    def _whole(self) -> Change:
        rows: Changes = {table: {key: dict(row) for key, row in rows.items()} for table, rows in self._tables.items()}
        return Change(rows, list(self._events))


def packed(rows: Changes) -> tuple[Changes, dict[str, list[dict[str, Any]]]]:
    """The same as columns where that is shorter: many rows of a table differ in the same fields.

    Returns:
        Rows that are left, and by table groups: ``{"fields": names, "rows": {key: values}}``.
    """
    left: Changes = {}
    columns: dict[str, list[dict[str, Any]]] = {}
    for table, changed in rows.items():
        groups: dict[tuple[str, ...], dict[str, list[Any]]] = {}
        for key, fields in changed.items():
            if fields is None:
                left.setdefault(table, {})[key] = None
            else:
                groups.setdefault(tuple(fields), {})[key] = list(fields.values())
        for names, group in groups.items():
            if len(group) < _WORTH_IT:
                left.setdefault(table, {}).update({key: changed[key] for key in group})
            else:
                columns.setdefault(table, []).append({"fields": names, "rows": group})
    return left, columns


def _differences(before: Mapping[str, Row], after: Mapping[str, Row]) -> dict[str, dict[str, Any] | None]:
    changed: dict[str, dict[str, Any] | None] = {key: None for key in before if key not in after}
    for key, row in after.items():
        had = before.get(key)
        fields = dict(row) if had is None else {name: value for name, value in row.items() if had[name] != value}
        if fields or had is None:
            changed[key] = fields
    return changed


def _joined(steps: Iterable[Change]) -> Change:
    whole = Change()
    for step in steps:
        whole = whole.then(step)
    return whole

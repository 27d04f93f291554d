"""From which level on the parts of the mesh log: seen, set while they run, and kept.

This hub logs so at once, its sidecars as soon as they hear of it, other hubs of the same database as soon as they read
of it, and all of them after a restart. Caller: ``hub/web/log_levels.py``.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

import structlog

from hub.store.level_changes import LevelRow, PutLevels
from hub.store.store import Store
from protocol import logs
from protocol.clock import Clock
from protocol.errors import BadInput, Problem
from protocol.events import Event, EventKind
from protocol.log_levels import (
    COMPONENT,
    MAX_COMPONENT_CHARS,
    MAX_SET,
    SIDECAR,
    LevelList,
    LevelsBody,
    LevelView,
    LogLevel,
    is_of,
)

log = structlog.get_logger(__name__)
Levels = Mapping[str, LogLevel]


class LogLevels:
    """The levels that somebody has set. Make one with :meth:`load`.

    Args:
        usual: the level of the settings.

    Attributes:
        on_change: hears of all levels that are set, whenever they change; first by :meth:`load`.
    """

    def __init__(self, store: Store, clock: Clock, usual: LogLevel) -> None:
        self._store, self._clock, self._usual = store, clock, usual
        self._rows: dict[str, LevelRow] = {}
        self.on_change: Callable[[Levels], None] = lambda _levels: None

    @classmethod
    async def load(cls, store: Store, clock: Clock, usual: LogLevel) -> "LogLevels":
        """The service, which has this process log as it was set."""
        made = cls(store, clock, usual)
        await made.reload()
        return made

    async def reload(self) -> None:
        """Read again what was set: this hub has changed it, or another one has."""
        self._rows = {row.component: row for row in await self._store.log_levels()}
        logs.set_levels(self.levels)
        self.on_change(self.levels)

    @property
    def levels(self) -> Levels:
        """What is set, by component."""
        return {row.component: row.level for row in self._rows.values()}

    def show(self) -> LevelList:
        """What is set, and for what a level can be set."""
        return LevelList(
            usual=self._usual,
            levels=tuple(_view(row) for row in self._rows.values()),
            components=(*logs.components(), SIDECAR),
        )

    async def put(self, body: LevelsBody, by: str) -> LevelList:
        """Set levels, all or none of them.

        Raises:
            BadInput: there is no such component, or too many would have a level of their own.
        """
        problems = list(_problems(body.levels, self._rows))
        changed = {name: level for name, level in body.levels.items() if level is not None}
        if len(self._rows | changed) > MAX_SET:
            problems.append(Problem("levels", f"at most {MAX_SET} components have a level of their own"))
        if problems:
            raise BadInput(problems, "log levels")
        now_ms = self._clock.now_ms()
        rows = tuple(
            LevelRow(component=name, level=level, changed_ms=now_ms, changed_by=by) for name, level in changed.items()
        )
        usual = tuple(name for name, level in body.levels.items() if level is None)
        said = {name: "usual" if level is None else level.value for name, level in sorted(body.levels.items())}
        event = Event(kind=EventKind.LOG_LEVELS_SET, at_ms=now_ms, facts={"by": by, "levels": said})
        await self._store.commit(PutLevels(rows, usual, event))
        await self.reload()
        log.info(event.kind.value, by=by, levels=said)
        return self.show()


def _problems(wanted: Iterable[str], set_before: Iterable[str]) -> Iterable[Problem]:
    """Names for which no level can be set; what was set once can always be taken back."""
    ours = logs.components()
    packages = {name.rsplit(".", depth)[0] for name in ours for depth in range(name.count(".") + 1)}
    known = {*packages, *logs.libraries(), SIDECAR, *set_before}
    for name in wanted:
        is_name = len(name) <= MAX_COMPONENT_CHARS and COMPONENT.fullmatch(name)
        if name in known or (is_name and is_of(name, SIDECAR)):  # nobody here knows what there is on other machines
            continue
        near = difflib.get_close_matches(name[:MAX_COMPONENT_CHARS], known, n=1)
        hint = f"; did you mean {near[0]}?" if near else "; GET /api/v1/log-levels lists them"
        yield Problem(f"levels.{name[:MAX_COMPONENT_CHARS]}", f"there is no such component{hint}")


def _view(row: LevelRow) -> LevelView:
    changed_at = datetime.fromtimestamp(row.changed_ms / 1000, UTC)
    return LevelView(component=row.component, level=row.level, changed_at=changed_at, changed_by=row.changed_by)

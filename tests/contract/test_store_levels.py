"""The promises of a store about levels of logs: what was set stays, until somebody takes it back."""

from hub.store.level_changes import LevelRow, PutLevels
from protocol.events import Event, EventKind
from protocol.log_levels import LogLevel
from tests.support.stores import Rows

EVENT = Event(kind=EventKind.LOG_LEVELS_SET, at_ms=1, facts={"by": "me"})


def row(component: str, level: LogLevel) -> LevelRow:
    return LevelRow(component=component, level=level, changed_ms=5, changed_by="me")


async def test_levels_are_kept_changed_and_forgotten_in_one_step(rows: Rows) -> None:
    first = row("hub.store", LogLevel.DEBUG), row("hub.web", LogLevel.ERROR), row("sidecar", LogLevel.DEBUG)
    await rows.store.commit(PutLevels(first, (), EVENT))
    await rows.store.commit(PutLevels((row("hub.web", LogLevel.INFO),), ("sidecar", "never.set"), EVENT))

    assert await rows.store.log_levels() == [first[0], row("hub.web", LogLevel.INFO)]

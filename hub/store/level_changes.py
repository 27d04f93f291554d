"""From which level on parts of a mesh log, as changes and rows of the store; what the verbs do is ``verbs.py``."""

from msgspec import Struct

from protocol.events import Event
from protocol.log_levels import LogLevel


class LevelRow(Struct, frozen=True, kw_only=True):
    """The level that somebody has set for a component."""

    component: str
    level: LogLevel
    changed_ms: int
    changed_by: str


class PutLevels(Struct, frozen=True):
    """Keep these levels, and forget those of the components ``usual``. Outcome: ``None``."""

    levels: tuple[LevelRow, ...]
    usual: tuple[str, ...]
    event: Event

"""From which level on the parts of a mesh log, as people see and set it while they run.

A level belongs to a component: a module like ``hub.services.dispatch``, all beneath a package like ``hub.web``, a
library like ``aiohttp``, or ``sidecar`` and what lies beneath it, which is that of every sidecar. Levels of hubs and
sidecars that nobody has set are those of their settings.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

from protocol.bounds import FEW, Word

LOG_LEVELS: Final = "log_levels"
"""The capability of sidecars whose levels can be set from their hub."""
SIDECAR: Final = "sidecar"
"""All sidecars, and what begins the names of their components."""
MAX_SET: Final = 100
"""Components that have a level of their own."""
COMPONENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*){0,7}")
MAX_COMPONENT_CHARS: Final = 100


class LogLevel(StrEnum):
    """What is written: this, and what is worse."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def of_sidecars(levels: Mapping[str, LogLevel]) -> dict[str, str]:
    """Of these levels those of sidecars, as they are told."""
    return {name: level.value for name, level in levels.items() if is_of(name, SIDECAR)}


def known_levels(said: Mapping[str, str]) -> dict[str, LogLevel]:
    """What :func:`of_sidecars` told, without words that are not known here."""
    levels = {level.value: level for level in LogLevel}
    return {name: levels[level] for name, level in said.items() if level in levels}


def is_of(name: str, component: str) -> bool:
    """Whether ``name`` is the component or lies beneath it."""
    return name == component or name.startswith(f"{component}.")


class LevelsBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """Levels by component; ``null`` takes back what was set. Components that are not named keep what they have."""

    levels: Annotated[dict[Word, LogLevel | None], Meta(max_length=FEW)]


class LevelView(Struct, kw_only=True):
    """A level that somebody has set."""

    component: str
    level: LogLevel
    changed_at: datetime
    changed_by: str


class LevelList(Struct, kw_only=True):
    """The usual level of this hub, what was set, and the components that there are."""

    usual: LogLevel
    levels: tuple[LevelView, ...]
    components: tuple[str, ...]

"""What the HTTP API says of backups."""

from datetime import datetime

from msgspec import Struct


class BackupView(Struct, kw_only=True):
    """A copy of the hub's store that has been looked through; ``path`` is on the hub's machine."""

    name: str
    path: str
    at: datetime
    size_bytes: int


class BackupList(Struct, kw_only=True):
    """All copies that can be restored, newest first."""

    backups: tuple[BackupView, ...]
    next_cursor: str | None = None

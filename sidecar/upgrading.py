"""The hub wants this machine to get another release: a file in the state directory says so to whoever does that.

A sidecar does not replace itself. Whoever keeps it running (a unit of systemd, the command ``agentcom join`` in the
foreground) watches for the file, and says so by another one. The caller is ``sidecar/app.py``.
"""

from pathlib import Path
from typing import Final

import structlog

from protocol.messages import Upgrade
from sidecar.folders import write_lasting

log = structlog.get_logger(__name__)
WATCHED: Final = "upgrade.watched"
WANTED: Final = "upgrade.wanted"


def is_watched(folder: Path) -> bool:
    """Whether somebody does what the hub wants, as the state directory ``folder`` says."""
    return (folder / WATCHED).exists()


def want(folder: Path, message: Upgrade) -> None:
    """The hub wants it."""
    if is_watched(folder):
        log.info("upgrade_wanted", by=message.by)
        write_lasting(folder / WANTED, f"{message.by}\n")

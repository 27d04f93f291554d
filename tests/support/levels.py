"""Which walls this machine has, found out without our own code, so that a fault of that is never taken for a machine's.

A test of a layer that is not here is skipped and says what is missing; pytest lists that at its end.
"""

import functools
import subprocess
from typing import Final

import pytest

from sidecar.sandbox import landlock
from sidecar.sandbox.cell import Level

LEVELS: Final = (Level.BUBBLEWRAP, Level.LANDLOCK)
_TRIAL: Final = (
    "bwrap",
    "--unshare-user",
    "--unshare-all",
    "--disable-userns",
    "--ro-bind",
    "/",
    "/",
    "--proc",
    "/proc",
    "true",
)


@functools.cache
def missing(level: Level) -> str:
    """What keeps this layer from being there; empty if nothing does."""
    if level is Level.LANDLOCK:
        known = landlock.version()
        return "" if known >= landlock.LEAST else f"Landlock {known}, {landlock.LEAST} is needed"
    try:
        tried = subprocess.run(_TRIAL, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        return "bubblewrap is not installed"
    return "" if tried.returncode == 0 else tried.stderr.strip() or f"bwrap ends with {tried.returncode}"


def need(*levels: Level) -> None:
    """Skip the test where one of these layers is missing, and say why."""
    for level in levels:
        if why := missing(level):
            pytest.skip(f"not tested here: {level} ({why})")

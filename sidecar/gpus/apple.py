"""The GPU of an Apple chip, from what ``ioreg`` tells anybody: name and load. Its memory is the machine's.

Heat and power are told only to root (``powermetrics``), so they stay unknown. ``ioreg`` is asked for a property list.
"""

import plistlib
import re
import subprocess
from collections.abc import Sequence
from typing import Any, Final
from xml.parsers.expat import ExpatError

from sidecar.gpus.base import APPLE, SeenGpu, Sight

COMMAND: Final = ("/usr/sbin/ioreg", "-r", "-d", "1", "-w", "0", "-a", "-c", "IOAccelerator")
_TIMEOUT_S: Final = 10.0
_LOAD: Final = "Device Utilization %"


class Apple:
    """The GPU of this chip."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = tuple(command)

    def look(self) -> Sight:
        """The GPU, or why it cannot be seen."""
        try:
            done = subprocess.run(self._command, capture_output=True, timeout=_TIMEOUT_S, check=True)
            found: Any = plistlib.loads(done.stdout) if done.stdout.strip() else []
        except (OSError, subprocess.SubprocessError, plistlib.InvalidFileException, ExpatError) as exc:
            return Sight(trouble=f"ioreg: {exc}")
        entries = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
        gpus = tuple(_gpu(entry, index) for index, entry in enumerate(entries))
        return Sight(gpus, "" if gpus else "ioreg tells of no GPU")


def _gpu(entry: dict[str, Any], index: int) -> SeenGpu:
    statistics = entry.get("PerformanceStatistics")
    load = statistics.get(_LOAD) if isinstance(statistics, dict) else None
    model = entry.get("model") or entry.get("IOClass") or ""
    text = model.decode("utf-8", "replace") if isinstance(model, bytes) else str(model)
    return SeenGpu(
        vendor=APPLE,
        index=index,
        name=re.sub(r"[^\x20-\x7e]", "", text) or "Apple GPU",
        unified=True,
        utilization=load if isinstance(load, int) and 0 <= load <= 100 else None,  # noqa: PLR2004 - percent
    )

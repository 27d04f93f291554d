"""How a command ends: its exit status. What it says when something is wrong is ``agentcom/cli/complaints.py``."""

import os
import sys
from typing import Final

DONE: Final = 0
WORK_FAILED: Final = 1
BAD_INPUT: Final = 2
UNREACHABLE: Final = 3
REFUSED: Final = 4
INTERRUPTED: Final = 130


def forget_stdout() -> None:
    """Nobody reads stdout any more (``| head``): let the interpreter's last flush go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""Coding agents that come as Python packages beside us; the caller is ``sidecar/app.py``.

The program of one is started by our own interpreter inside the cell, which sees of this host only what is named here.
"""

import importlib.util
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from sidecar.core.programs import CLAUDE_SDK, AgentProgram

RUNNER: Final = Path(__file__).with_name("acp") / "claude_sdk.py"


def resolved(program: AgentProgram, package: str = "claude_agent_sdk") -> AgentProgram | None:
    """The program as it is started here; ``None``: its ``package`` is not installed."""
    if program.command != CLAUDE_SDK:
        return program
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return None
    site = str(Path(found.origin).parents[1])
    command = (os.path.realpath(sys.executable), "-I", str(RUNNER), site)
    return replace(program, command=command, reads=(*program.reads, site, str(RUNNER)))

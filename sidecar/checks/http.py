"""The check ``http_ok``: a server that a command starts answers as it should.

Server and question run in one program within the sandbox (``sidecar/checks/probe.py``). Where the work has a network
of its own, nobody else reaches the server; where it has that of the host, an address that is taken before is refused.
"""

import os
import sys
from functools import cache
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from protocol.checks import CheckHttpOk
from protocol.model import Finding
from sidecar.checks import probe
from sidecar.checks.base import Ground, finding, run_program, time_for

USUAL_S: Final = 60.0
"""How long a server is waited for, unless the check says otherwise."""
_PYTHON: Final = os.path.realpath(sys.executable)
_LATER_S: Final = 5.0
"""The program ends by itself; if not, it is ended so much later."""
_CODES: Final = frozenset({0, probe.NOBODY, probe.STATUS, probe.TEXT, probe.ENDED, probe.TAKEN})


async def http_ok(check: CheckHttpOk, ground: Ground) -> Finding:
    """Passes if the server that ``command`` starts answers at ``url`` with the status and the text, in time."""
    if not ground.cell.opens_ports:
        return finding(check, passed=False, detail="no program may open a port in this sandbox: it needs bubblewrap")
    seconds = min(time_for(check, ground), USUAL_S if check.timeout_s is None else check.timeout_s)
    argv = [_PYTHON, "-I", "-S", "-c", _source(), check.command, check.url, str(check.status), check.text, f"{seconds}"]
    found, output = await run_program(check, argv, ground, timeout_s=seconds + _LATER_S)
    last = output.rstrip().rpartition("\n")[2]
    return replace(found, detail=last[:500]) if found.exit_code in _CODES and last else found


@cache
def _source() -> str:
    return Path(probe.__file__).read_text(encoding="utf-8")

"""The check ``git_clean``: nothing in the workspace is left uncommitted.

Git reads the settings of a repository that the work could write, so everything there that starts a program for
``status`` is switched off, and it runs as a process of the attempt, with the attempt's rights and none of ours.
"""

from typing import Final

import msgspec

from protocol.model import CheckGitClean, Finding
from sidecar.checks.base import Ground, run_command

_STATUS: Final = [
    "git",
    "--no-optional-locks",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.untrackedCache=false",
    "status",
    "--porcelain",
    "--untracked-files=all",
    "--ignore-submodules=none",
]
_ENV: Final = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
}
_SHOWN: Final = 5


async def git_clean(check: CheckGitClean, ground: Ground) -> Finding:
    """Passes if ``git status`` has nothing to tell; else the detail names the first paths."""
    found = await run_command(check, _STATUS, ground, _ENV)
    changed = found.output.splitlines()
    if not found.passed or not changed:
        return found
    more = "" if len(changed) <= _SHOWN else f" and {len(changed) - _SHOWN} more"
    detail = f"not committed: {', '.join(line[3:] for line in changed[:_SHOWN])}{more}"
    return msgspec.structs.replace(found, passed=False, detail=detail)

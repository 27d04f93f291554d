"""The check ``git_clean``: nothing in the workspace is left uncommitted.

What a plain ``git status`` says in there is what the work has told git to say (ignore rules, flags in the index,
another repository in its place), so the workspace's owner is asked, who looks for himself
(``sidecar/workspace.py``, ``Workspaces.uncommitted``).
"""

import asyncio
from typing import Final

from protocol.checks import CheckGitClean
from protocol.errors import WorkFailed
from protocol.model import Finding
from sidecar.checks.base import Ground, finding

_SHOWN: Final = 5


async def git_clean(check: CheckGitClean, ground: Ground) -> Finding:
    """Passes if every change is committed; else the detail names the first paths."""
    timeout_s = ground.timeout_s if check.timeout_s is None else min(check.timeout_s, ground.timeout_s)
    clock = asyncio.get_running_loop().time
    began_at = clock()
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            changed = await ground.uncommitted()
    except TimeoutError:
        if not limit.expired():
            raise
        return finding(check, passed=False, detail=f"took longer than {timeout_s:g} s and was ended")
    except WorkFailed as exc:
        return finding(check, passed=False, detail=str(exc))
    more = "" if len(changed) <= _SHOWN else f" and {len(changed) - _SHOWN} more"
    detail = f"not committed: {', '.join(changed[:_SHOWN])}{more}" if changed else ""
    return finding(check, passed=not changed, detail=detail, seconds=clock() - began_at)

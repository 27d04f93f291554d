"""The checks ``test_passes`` and ``command_succeeds``: a command that must exit 0."""

from protocol.model import CheckCommandSucceeds, CheckTestPasses, Finding
from sidecar.checks.base import Ground, run_command


async def command_passes(check: CheckTestPasses | CheckCommandSucceeds, ground: Ground) -> Finding:
    """Passes if the shell command exits 0 in time; its output's end goes into the finding."""
    return await run_command(check, check.command, ground)

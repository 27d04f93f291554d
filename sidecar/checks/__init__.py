"""The checks that a task can ask for, by type. Each is mechanical: it looks, it never asks a model."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from protocol.model import Finding
from sidecar.checks.base import Ground
from sidecar.checks.commands import command_passes
from sidecar.checks.files import file_exists
from sidecar.checks.git import git_clean

CheckRunner = Callable[[Any, Ground], Awaitable[Finding]]

CHECKS: Final[Mapping[str, CheckRunner]] = {
    "file_exists": file_exists,
    "test_passes": command_passes,
    "command_succeeds": command_passes,
    "git_clean": git_clean,
}
"""Every key is the tag of a check in :data:`protocol.model.Check`."""

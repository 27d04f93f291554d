"""The checks that a task can ask for, by type. All but ``judge`` are mechanical: they never ask a model."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from protocol.model import Finding
from sidecar.checks.base import Ground
from sidecar.checks.changes import diff_limits, no_placeholders, no_secrets, protected_paths
from sidecar.checks.commands import command_passes, test_passes
from sidecar.checks.coverage import coverage_not_lower
from sidecar.checks.files import file_absent, file_contains, file_exists, json_schema
from sidecar.checks.git import git_clean
from sidecar.checks.http import http_ok
from sidecar.checks.judge import judge
from sidecar.checks.plugin import plugin

CheckRunner = Callable[[Any, Ground], Awaitable[Finding]]

CHECKS: Final[Mapping[str, CheckRunner]] = {
    "file_exists": file_exists,
    "file_absent": file_absent,
    "file_contains": file_contains,
    "json_schema": json_schema,
    "test_passes": test_passes,
    "command_succeeds": command_passes,
    "git_clean": git_clean,
    "no_placeholders": no_placeholders,
    "no_secrets": no_secrets,
    "diff_limits": diff_limits,
    "protected_paths": protected_paths,
    "http_ok": http_ok,
    "coverage_not_lower": coverage_not_lower,
    "plugin": plugin,
    "judge": judge,
}
"""Every key is the tag of a check in :data:`protocol.checks.Check`."""

"""The profile for macOS' ``sandbox-exec`` for a view of the world.

Pure. Written from Apple's own profiles in /System/Library/Sandbox/Profiles and never run by our tests, which have no
Mac: it is offered as the level ``seatbelt`` and said to be untested in the documentation. A program may read what the
view holds, write what is its own, signal its own kind, and reach no network unless the host's owner opened it.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sidecar.sandbox.policy import View

PROGRAM: Final = "/usr/bin/sandbox-exec"
SYSTEM: Final = ("/System", "/Library", "/Applications/Xcode.app", "/private/etc", "/private/var/db/timezone", "/dev")
"""What every program of macOS reads, besides the directories that all systems have."""
_PROCESSES: Final = (
    "(allow process-fork process-exec)",
    "(allow signal (target same-sandbox))",
    "(allow process-info* (target same-sandbox))",
    "(allow sysctl-read)",
    "(allow file-read-metadata)",
    '(allow mach-lookup (global-name "com.apple.system.opendirectoryd.libinfo"))',
    '(allow file-write-data (literal "/dev/null") (literal "/dev/tty"))',
)


def command(view: View, *, network: bool) -> list[str]:
    """The command line up to the program that is to run inside."""
    return [PROGRAM, "-p", profile(view, network=network)]


def profile(view: View, *, network: bool) -> str:
    """The rules; of several that fit, the last one counts."""
    read, write = [*view.read, *map(Path, SYSTEM)], view.write
    rules = ["(version 1)", "(deny default)", *_PROCESSES]
    rules += [_rule("allow file-read*", "subpath", read), _rule("deny file-read*", "subpath", view.hidden)]
    rules += [_rule("allow file-read* file-write*", "subpath", write)]
    rules += [_rule("deny file-write*", "subpath", view.fixed)]
    rules += ["(allow network* system-socket)"] if network else []
    return "\n".join(rule for rule in rules if rule)


def _rule(what: str, kind: str, paths: Iterable[Path]) -> str:
    named = " ".join(f"({kind} {json.dumps(str(path.resolve()), ensure_ascii=False)})" for path in paths)
    return f"({what} {named})" if named else ""

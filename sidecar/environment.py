"""The variables that programs of work start with.

Allowed is what a build needs; all else of the sidecar's environment, keys among it, stays with the sidecar. Callers:
the sidecar's composition root, and tests that run programs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")


def minimal_env(source: Mapping[str, str], *, home: Path, tmp: Path | None = None) -> dict[str, str]:
    """The environment that child processes start from: what a build needs, and no secret of ours.

    Args:
        source: the daemon's environment; search path, language, time zone and certificate store are taken from it.
        home: ``HOME`` of the children, a directory of ours; the user's own holds keys.
        tmp: ``TMPDIR``; ``/tmp`` if not given.

    A git identity is in it because that home has none and ``git commit`` would refuse to work.
    """
    kept = {name: source[name] for name in _KEPT if source.get(name)}
    identity = {f"GIT_{who}_{what[0]}": what[1] for who in ("AUTHOR", "COMMITTER") for what in _IDENTITY}
    fixed = {"HOME": str(home), "TMPDIR": str(tmp or "/tmp"), "TERM": "dumb"}  # noqa: S108 - the system's default
    # Python takes a cached module for current if its second and size are, which a quick repair may leave as they were:
    # the check would run the old code. And caches would end up in commits.
    fixed["PYTHONDONTWRITEBYTECODE"] = "1"
    return {"PATH": DEFAULT_PATH, "LANG": "C.UTF-8"} | kept | fixed | identity


_IDENTITY: Final = (("NAME", "AgentCom"), ("EMAIL", "agentcom@localhost"))

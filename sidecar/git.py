"""Runs git so that nothing in a repository, an address or the host's configuration can make it run something else.

Holds which addresses and branch names are handed to git at all, which environment and switches git gets, and what its
failures mean; knows nothing of workspaces. Argument lists only, never a shell. The caller is :mod:`sidecar.workspace`.

Git reads neither the system's nor the user's configuration, runs no hook, no file system monitor, no external diff and
no pager, asks no question, follows no submodule, and speaks only file, https and ssh. Commands that reach the network,
and only those, see ``network_env`` (``HOME`` for ~/.netrc and ~/.ssh, ``SSH_AUTH_SOCK``): they work for the host in our
bare cache and run no code of a repository. All others get an environment without any access.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from protocol.limits import MAX_PATH_CHARS
from protocol.model import AttemptId
from sidecar.errors import (
    GitFailed,
    RepositoryInvalid,
    RepositoryMissing,
    RepositoryRefused,
    RepositoryUnreachable,
)
from sidecar.process import Processes, ProcessOutcome

NETWORK_S: Final = 600.0
"""Longest fetch or push."""
LOCAL_S: Final = 300.0
"""Longest command on this disk; a checkout of a large repository is the slow one."""
STALL_S: Final = 30
"""A transfer slower than 1 kB/s for so long is given up; an ssh connection must stand within it."""

MOST_SAID_CHARS: Final = 64 << 20
"""Longest answer of a git command that is taken: the names of some hundred thousand files."""

_SWITCHES: Final = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.excludesFile=/dev/null",  # by default in HOME, which all work shares and may write
    "core.attributesFile=/dev/null",
    "core.pager=cat",
    "core.askPass=",
    "credential.helper=",
    "protocol.ext.allow=never",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "push.recurseSubmodules=no",
    "commit.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "http.lowSpeedLimit=1000",
    f"http.lowSpeedTime={STALL_S}",
)
_ENV: Final = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_NO_REPLACE_OBJECTS": "1",  # a replacement that work has made would change what every commit holds
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "file:https:ssh",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "LC_ALL": "C",  # what git says is matched below
}
_SSH: Final = f"ssh -oBatchMode=yes -oConnectTimeout={STALL_S} -oServerAliveInterval={STALL_S}"
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_SCP_LIKE: Final = re.compile(r"(?P<user>[^@:/]+)@(?P<host>[^@:/]+):(?P<path>[^-:/][^:]*|/[^:]*)")
# The rules of git-check-ref-format(1), and no leading dash or dot.
_BRANCH: Final = re.compile(
    r"(?!.*(?:\.\.|//|@\{|/\.|\.lock(?:/|$)))"
    r"[^\x00-\x20\x7f~^:?*\[\\/.-]"
    r"(?:[^\x00-\x20\x7f~^:?*\[\\]*[^\x00-\x20\x7f~^:?*\[\\/.])?"
)
_MISSING: Final = re.compile(
    r"does not appear to be a git repository|repository '.*' not found|repository not found|not found: did you run"
    r"|HTTP 404|returned error: 404|does not exist|project you were looking for could not be found",
    re.IGNORECASE,
)
_REFUSED: Final = re.compile(
    r"authentication failed|could not read (?:username|password)|permission denied|host key verification failed"
    r"|returned error: 40[13]|access denied|dubious ownership",
    re.IGNORECASE,
)
_UNREACHABLE: Final = re.compile(
    r"could not read from remote|unable to access|could not resolve|early EOF|timed out|RPC failed|hung up",
    re.IGNORECASE,
)


def checked_address(repository: str) -> str:
    """The address to hand to git for ``context.repo``: an https or ssh URL, ``user@host:path``, or an absolute path.

    Raises:
        RepositoryInvalid: it is anything else.
    """
    why = _address_problem(repository)
    if why:
        raise RepositoryInvalid(repository, why)
    return repository.removeprefix("file://")


def is_local(address: str) -> bool:
    """Whether a checked address is a path on this machine."""
    return address.startswith("/")


def checked_branch(repository: str, branch: str) -> str:
    """``branch`` if it can be the name of one.

    Raises:
        RepositoryInvalid: git would not take it as a name.
    """
    if len(branch) > MAX_PATH_CHARS or not _BRANCH.fullmatch(branch) or branch in {"@", "HEAD"}:
        raise RepositoryInvalid(repository, f"{branch[:100]!r} is no branch name")
    return branch


def _address_problem(text: str) -> str:
    """What is wrong with an address, empty if nothing."""
    path = text.startswith("/")
    if not text or len(text) > MAX_PATH_CHARS:
        problem = f"an address has 1 to {MAX_PATH_CHARS} characters"
    elif text.startswith("-"):
        problem = "an address does not begin with a dash"
    elif re.search(r"[\x00-\x1f\x7f]", text) or (not path and re.search(r"[ \\]", text)):
        problem = "an address holds no blank, backslash or control character"
    elif path:
        problem = ""
    elif "::" in text.partition("/")[0]:
        problem = "remote helpers (transport::address) are refused"
    elif "://" in text:
        problem = _url_problem(text)
    else:
        match = _SCP_LIKE.fullmatch(text)
        known = match and _USER.fullmatch(match["user"]) and _HOST.fullmatch(match["host"])
        problem = "" if known else "this is neither an address nor an absolute path"
    return problem


def _url_problem(text: str) -> str:
    try:
        parts = urlsplit(text)
        port, user, password = parts.port, parts.username, parts.password
    except ValueError as exc:
        return str(exc)
    if parts.scheme == "file":
        return "" if text.startswith("file:///") else "a file:// address names an absolute path and no host"
    host = parts.netloc.rpartition("@")[2].removesuffix("" if port is None else f":{port}")
    problem = ""
    if parts.scheme not in {"https", "ssh"}:
        problem = f"the scheme {parts.scheme[:20]!r} is refused"
    elif password is not None or (user and parts.scheme == "https"):
        problem = "an address carries no credentials; they belong in the sidecar user's ~/.netrc or ssh key"
    elif not _HOST.fullmatch(host) or (user is not None and not _USER.fullmatch(user)):
        problem = "its host or user is no name"
    elif parts.path.strip("/") in {"", ".", ".."} or parts.query or parts.fragment:
        problem = "it names no repository on the host"
    return problem


class Git:
    """Runs git commands of one attempt.

    Args:
        processes: starts them; so they end with the attempt.
        network_env: variables for commands that reach other machines (``HOME``, ``SSH_AUTH_SOCK``).
        most_said_chars: longest answer that is taken; work decides how much there is to say about it.
    """

    def __init__(
        self,
        processes: Processes,
        network_env: Mapping[str, str] = MappingProxyType({}),
        most_said_chars: int = MOST_SAID_CHARS,
    ) -> None:
        self._processes = processes
        self._network_env = dict(network_env)
        self._most_said_chars = most_said_chars

    async def run(self, *arguments: str, attempt: AttemptId, cwd: Path, stdin: bytes | None = None) -> str:
        """What a local git command said on stdout.

        Raises:
            GitFailed: it failed, took longer than ``LOCAL_S``, or said more than anybody could want to hold.
        """
        outcome, said = await self._run(arguments, attempt, cwd, stdin=stdin)
        if outcome.exit_code != 0:
            raise GitFailed(_action(arguments), outcome.exit_code, outcome.output)
        return said

    async def succeeds(self, *arguments: str, attempt: AttemptId, cwd: Path) -> bool:
        """Whether a local git command exits 0."""
        outcome, _ = await self._run(arguments, attempt, cwd)
        return outcome.exit_code == 0

    async def reach(self, address: str, *arguments: str, attempt: AttemptId, cwd: Path) -> ProcessOutcome:
        """Run a command that talks to the repository at ``address``; the caller looks at the exit code for the rest.

        Raises:
            RepositoryMissing, RepositoryRefused, RepositoryUnreachable: the repository could not be talked to.
        """
        outcome, _ = await self._run(arguments, attempt, cwd, network=True)
        said = outcome.output.strip()[-500:]
        if outcome.timed_out:
            raise RepositoryUnreachable(address, f"git {_action(arguments)} took longer than {NETWORK_S:g} s")
        if outcome.exit_code == 0:
            return outcome
        if _REFUSED.search(said):
            raise RepositoryRefused(address, _one_line(said))
        if _MISSING.search(said):
            raise RepositoryMissing(address, _one_line(said))
        if _UNREACHABLE.search(said):
            raise RepositoryUnreachable(address, _one_line(said))
        return outcome

    async def _run(
        self,
        arguments: tuple[str, ...],
        attempt: AttemptId,
        cwd: Path,
        *,
        network: bool = False,
        stdin: bytes | None = None,
    ) -> tuple[ProcessOutcome, str]:
        switches = [part for switch in _SWITCHES for part in ("-c", switch)]
        env = _ENV | ({"GIT_SSH_COMMAND": _SSH} | self._network_env if network else {})
        said: list[str] = []
        left = self._most_said_chars

        def keep(stream: str, text: str) -> None:
            nonlocal left
            if stream == "stdout":
                left -= len(text)
                if left < 0:
                    raise GitFailed(_action(arguments), None, f"it says more than {self._most_said_chars} characters")
                said.append(text)

        outcome = await self._processes.run(
            ["git", "--no-pager", *switches, *arguments],
            attempt=attempt,
            cwd=cwd,
            env=env,
            timeout_s=NETWORK_S if network else LOCAL_S,
            on_output=keep,
            stdin=stdin,
        )
        return outcome, "".join(said)


def _action(arguments: tuple[str, ...]) -> str:
    """The command's name, for messages: the first word that is no switch."""
    return next((word for word in arguments if not word.startswith("-")), "")


def _one_line(said: str) -> str:
    """Git's own words as one line, its hint about access rights left out."""
    lines = (line.removeprefix("fatal: ").removeprefix("remote: ").strip() for line in said.splitlines())
    return "; ".join(line for line in lines if line and not line.startswith(("Please make sure", "and the repository")))

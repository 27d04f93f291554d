"""Runs git so that nothing in a repository, an address or the host's configuration can make it run something else.

Knows nothing of workspaces. Argument lists only, never a shell; which addresses, names, switches and variables git gets
is in :mod:`protocol.git`. The caller is :mod:`sidecar.workspace`.

Commands that reach the network, and only those, see ``network_env`` (``HOME`` for ~/.netrc and ~/.ssh,
``SSH_AUTH_SOCK``): they work for the host in our bare cache and run no code of a repository. All others get an
environment without any access.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

from protocol import git
from protocol.model import AttemptId
from sidecar.child import OnOutput
from sidecar.errors import (
    GitFailed,
    RepositoryInvalid,
    RepositoryMissing,
    RepositoryRefused,
    RepositoryUnreachable,
)
from sidecar.gate import Way
from sidecar.process import Processes, ProcessOutcome

NETWORK_S: Final = 600.0
"""Longest fetch or push."""
LOCAL_S: Final = 300.0
"""Longest command on this disk; a checkout of a large repository is the slow one."""

MOST_SAID_CHARS: Final = 64 << 20
"""Longest answer of a git command that is taken: the names of some hundred thousand files."""

_TROUBLES: Final = {
    "refused": RepositoryRefused,
    "missing": RepositoryMissing,
    "unreachable": RepositoryUnreachable,
}


def checked_address(repository: str) -> str:
    """The address to hand to git for ``context.repo``: an https or ssh URL, ``user@host:path``, or an absolute path.

    Raises:
        RepositoryInvalid: it is anything else.
    """
    why = git.address_problem(repository)
    if why:
        raise RepositoryInvalid(repository, why)
    return repository.removeprefix("file://")


def _reaching(arguments: tuple[str, ...]) -> dict[str, str]:
    """What a local command may reach: nothing, unless it takes commits from a repository or a bundle on this disk.

    A repository may say that what it lacks is to be fetched, and by which command: asking it for one such object would
    run that.
    """
    return {"GIT_ALLOW_PROTOCOL": "file" if git.action(arguments) == "fetch" else "none"}


def is_local(address: str) -> bool:
    """Whether a checked address is a path on this machine."""
    return address.startswith("/")


def checked_branch(repository: str, branch: str) -> str:
    """``branch`` if it can be the name of one.

    Raises:
        RepositoryInvalid: git would not take it as a name.
    """
    if not git.is_branch(branch):
        raise RepositoryInvalid(repository, f"{branch[:100]!r} is no branch name")
    return branch


def refusal(outcome: ProcessOutcome) -> str:
    """Why a remote did not take a push, in its own words."""
    told = ("!", "remote:", "fatal:", "error:")
    lines = [line for line in outcome.output.splitlines() if line.startswith(told)]
    return "; ".join(lines)[-500:] or f"git push: exit code {outcome.exit_code}"


class Walls(Protocol):
    """Starts a program of an attempt where it can reach nothing but the attempt's own (``sidecar/sandbox/cell.py``)."""

    async def run(
        self,
        command: str | Sequence[str],
        *,
        env: Mapping[str, str] = ...,
        timeout_s: float | None = ...,
        on_output: OnOutput | None = ...,
        stdin: bytes | None = ...,
    ) -> ProcessOutcome:
        """How it ended."""
        ...


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

    async def run(
        self,
        *arguments: str,
        attempt: AttemptId,
        cwd: Path,
        stdin: bytes | None = None,
        walls: Walls | None = None,
        index: Path | None = None,
    ) -> str:
        """What a local git command said on stdout; it runs within ``walls`` if there are some.

        ``index`` is used instead of the repository's own.

        Raises:
            GitFailed: it failed, took longer than ``LOCAL_S``, or said more than anybody could want to hold.
        """
        outcome, said = await self._run(arguments, attempt, cwd, stdin=stdin, walls=walls, index=index)
        if outcome.exit_code != 0:
            raise GitFailed(git.action(arguments), outcome.exit_code, outcome.output)
        return said

    async def succeeds(self, *arguments: str, attempt: AttemptId, cwd: Path) -> bool:
        """Whether a local git command exits 0."""
        outcome, _ = await self._run(arguments, attempt, cwd)
        return outcome.exit_code == 0

    async def reach(
        self, address: str, *arguments: str, attempt: AttemptId, cwd: Path, way: Way | None = None
    ) -> ProcessOutcome:
        """Run a command that talks to the repository at ``address``; the caller looks at the exit code for the rest.

        Args:
            address: where it is; the arguments name ``way.address`` if there is a way.
            arguments, attempt, cwd: the command.
            way: through the hub; then git sees nothing of what the host's user has.
        Raises:
            RepositoryMissing, RepositoryRefused, RepositoryUnreachable: the repository could not be talked to.
        """
        outcome, _ = await self._run(arguments, attempt, cwd, network=True, way=way)
        said = outcome.output.strip()[-500:]
        if outcome.timed_out:
            raise RepositoryUnreachable(address, f"git {git.action(arguments)} took longer than {NETWORK_S:g} s")
        if outcome.exit_code == 0:
            return outcome
        if (kind := _TROUBLES.get(git.trouble_of(said))) is not None:
            raise kind(address, git.one_line(said))
        return outcome

    async def _run(
        self,
        arguments: tuple[str, ...],
        attempt: AttemptId,
        cwd: Path,
        *,
        network: bool = False,
        way: Way | None = None,
        stdin: bytes | None = None,
        walls: Walls | None = None,
        index: Path | None = None,
    ) -> tuple[ProcessOutcome, str]:
        env = git.ENV | ({"GIT_SSH_COMMAND": git.SSH} | self._network_env if network else _reaching(arguments))
        if way is not None:
            env = git.ENV | way.env()
        env |= {"GIT_INDEX_FILE": str(index)} if index is not None else {}
        said: list[str] = []
        left = self._most_said_chars

        def keep(stream: str, text: str) -> None:
            nonlocal left
            if stream == "stdout":
                left -= len(text)
                if left < 0:
                    raise GitFailed(
                        git.action(arguments), None, f"it says more than {self._most_said_chars} characters"
                    )
                said.append(text)

        if walls is not None:
            command = git.command(*arguments)
            outcome = await walls.run(command, env=env, timeout_s=LOCAL_S, on_output=keep, stdin=stdin)
            return outcome, "".join(said)
        outcome = await self._processes.run(
            git.command(*arguments),
            attempt=attempt,
            cwd=cwd,
            env=env,
            timeout_s=NETWORK_S if network else LOCAL_S,
            on_output=keep,
            stdin=stdin,
        )
        return outcome, "".join(said)

"""Runs git for the hub: bounded in time and output, ended with whoever asked, told nothing of the hub's environment.

What git is given to obey is in :mod:`protocol.git`; the repository is always named by the caller, so git never looks
for one in a directory. Nobody can write into the repositories that the hub runs git on but the hub. Caller:
``hub/checkout.py``.
"""

import asyncio
import contextlib
import os
import shlex
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from protocol import git
from protocol.errors import AgentComError, Conflict
from protocol.redaction import Redactor

LOCAL_S: Final = 120.0
NETWORK_S: Final = 600.0
MOST_SAID_BYTES: Final = 16 << 20
MOST_COMPLAINED_BYTES: Final = 8 << 10
"""Of what git says on stderr only the last of it is kept: a remote decides how much that is."""
_SHOWN_CHARS: Final = 500
_OURS: Final = ("PATH", "LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")
_ACCESS: Final = ("HOME", "SSH_AUTH_SOCK")
"""What git sees besides when it talks to a remote, and only then: keys and ~/.netrc of the hub's user."""


class GitRefused(Conflict):
    """Git does not do this as things stand; its own words say why."""

    code = "git_refused"

    def __init__(self, action: str, said: str) -> None:
        self.action, self.said = action, said
        super().__init__(action, said)

    def __str__(self) -> str:
        return f"git {self.action}: {self.said or 'it said nothing'}"


class RemoteFailed(AgentComError):
    """The repository that a project comes from cannot be talked to."""

    code = "repository_failed"

    def __init__(self, repository: str, why: str) -> None:
        self.repository, self.why = git.masked(repository), why
        super().__init__(self.repository, why)

    def __str__(self) -> str:
        return f"repository {self.repository!r}: {self.why}"


class Said(NamedTuple):
    """How a command ended."""

    exit_code: int
    out: str
    error: str


class Login(NamedTuple):
    """A file with user and password, and the address that they are for."""

    file: Path
    address: str

    def read(self) -> tuple[str, str] | None:
        """User and password; ``None``: the file is gone, as the project has another address now, or damaged."""
        try:
            lines = dict(line.partition("=")[::2] for line in self.file.read_text(encoding="utf-8").splitlines())
            return lines["username"], lines["password"]
        except (FileNotFoundError, UnicodeDecodeError, KeyError):
            return None

    def switch(self) -> str:
        """The switch that lets git ask for them: for this host only, and by the name of the file."""
        parts = urlsplit(self.address)
        helper = f'f() {{ test "$1" = get && cat {shlex.quote(str(self.file))}; }}; f'
        return f"credential.{parts.scheme}://{parts.netloc}.helper=!{helper}"


class Git:
    """Runs git commands.

    Args:
        env: the environment of the hub; a few of its variables are passed on.
        ca_file: certificates to trust instead of the machine's, empty for those.
    """

    def __init__(self, env: Mapping[str, str], ca_file: str = "") -> None:
        self._env = {name: env[name] for name in _OURS if name in env} | dict(git.ENV)
        self._env |= {f"GIT_{who}_NAME": "AgentCom" for who in ("AUTHOR", "COMMITTER")}
        self._env |= {f"GIT_{who}_EMAIL": "agentcom@localhost" for who in ("AUTHOR", "COMMITTER")}
        self._env |= {"GIT_LITERAL_PATHSPECS": "1"}
        self._access = {name: env[name] for name in _ACCESS if name in env} | {"GIT_SSH_COMMAND": git.SSH}
        self._access |= {"GIT_SSL_CAINFO": ca_file} if ca_file else {}

    async def run(self, *arguments: str, cwd: Path, stdin: bytes = b"") -> str:
        """What a local command said on stdout.

        Raises:
            GitRefused: it failed.
        """
        done = await self.ask(*arguments, cwd=cwd, stdin=stdin)
        if done.exit_code:
            raise GitRefused(git.action(arguments), git.one_line(done.error or done.out)[-_SHOWN_CHARS:])
        return done.out

    async def ask(self, *arguments: str, cwd: Path, stdin: bytes = b"") -> Said:
        """How a local command ended.

        Raises:
            GitRefused: it took longer than ``LOCAL_S``.
        """
        return await self._start(git.command(*arguments), cwd, self._env, stdin, LOCAL_S)

    async def reach(self, address: str, *arguments: str, cwd: Path, login: Login | None = None) -> Said:
        """How a command ended that talks to the repository at ``address``; of a failure without the password.

        Raises:
            RemoteFailed: it cannot be talked to.
        """
        switches = ("-c", login.switch()) if login is not None else ()
        command = git.command(*switches, *arguments)
        try:
            done = await self._start(command, cwd, self._env | self._access, b"", NETWORK_S)
        except GitRefused as exc:
            raise RemoteFailed(address, exc.said) from exc
        if done.exit_code and login is not None:
            done = _without(login, done)
        if done.exit_code and git.trouble_of(done.error):
            raise RemoteFailed(address, git.one_line(done.error)[-_SHOWN_CHARS:])
        return done

    async def _start(
        self, command: list[str], cwd: Path, env: Mapping[str, str], stdin: bytes, longest_s: float
    ) -> Said:
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *command, cwd=cwd, env=env, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
            )
        except FileNotFoundError as exc:
            raise GitRefused("start", "git is not installed on the hub's machine") from exc
        try:
            async with asyncio.timeout(longest_s):
                out, error, _ = await asyncio.gather(
                    _read(process.stdout), _read_end(process.stderr), _write(process.stdin, stdin)
                )
                await process.wait()
        except TimeoutError:
            raise GitRefused("command", f"it took longer than {longest_s:g} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return Said(process.returncode or 0, out, error)


def _without(login: Login, said: Said) -> Said:
    """What was said, without the password: a server may tell back in an error what it was sent."""
    known = login.read()
    redactor = Redactor(known[1:] if known is not None else ())
    return Said(said.exit_code, redactor.text(said.out), redactor.text(said.error))


async def _read(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None, "it is a pipe"
    pieces: list[bytes] = []
    left = MOST_SAID_BYTES
    while piece := await stream.read(64 << 10):
        left -= len(piece)
        if left < 0:
            raise GitRefused("command", f"it says more than {MOST_SAID_BYTES >> 20} MiB")
        pieces.append(piece)
    return b"".join(pieces).decode("utf-8", "replace")


async def _read_end(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None, "it is a pipe"
    last = b""
    while piece := await stream.read(64 << 10):
        last = (last + piece)[-MOST_COMPLAINED_BYTES:]
    return last.decode("utf-8", "replace")


async def _write(stream: asyncio.StreamWriter | None, data: bytes) -> None:
    assert stream is not None, "it is a pipe"
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended before it read all; its status tells
        if not stream.is_closing():  # some event loops raise something else when they know already that it ended
            stream.write(data)
            await stream.drain()
    stream.close()

"""Ask the hub for a credential with which git of one attempt reaches the repository of its project, through the hub.

It is asked for whenever git is about to fetch or push, given to that one git process in its environment, and kept
nowhere. A hub that keeps none for that repository (or is older) leaves git to what the sidecar's user has.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple, Protocol

import msgspec
import structlog

from protocol.api import PREFIX
from protocol.model import AttemptId
from protocol.pinning import Trust
from protocol.projects import GitAccess
from sidecar.errors import LeaseOver, RepositoryUnreachable

log = structlog.get_logger(__name__)

ASK_S: Final = 30.0
PATIENCE_S: Final = 30.0
PAUSE_S: Final = 1.0
_MAX_ANSWER_BYTES: Final = 64 << 10
_NONE: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.FORBIDDEN})


class Way(NamedTuple):
    """How git gets to a repository through the hub."""

    address: str
    token: str
    ca_file: str = ""
    """The authority of the hub; empty: git trusts whom the system trusts."""

    def env(self) -> dict[str, str]:
        """What git is told besides: for this address only, and by no command line."""
        told = {
            f"http.{self.address}.extraHeader": f"Authorization: Bearer {self.token}",
            "http.followRedirects": "false",
        }
        if self.ca_file:
            told[f"http.{self.address}.sslCAInfo"] = self.ca_file
        env = {"GIT_CONFIG_COUNT": str(len(told)), "GIT_ALLOW_PROTOCOL": "http:https"}
        for number, (name, value) in enumerate(told.items()):
            env |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        return env


class Gate(Protocol):
    """Knows ways through the hub."""

    async def way(self, attempt: AttemptId, address: str) -> Way | None:
        """The way of an attempt to the repository at ``address``; ``None``: git goes there by itself.

        Raises:
            LeaseOver: the attempt does not count any more.
            RepositoryUnreachable: the hub does not answer.
        """
        ...


class HubGate:
    """The ways that a hub gives.

    Args:
        hub: the address of the hub that this sidecar is at now.
        token: the token that it joins with.
        check: raises if nothing may happen for an attempt any more.
        patience_s: how long a hub that is away is waited for.
        trust: whom to take for the hub.
        ca_file: where git finds its authority; made when it is needed.
    """

    def __init__(
        self,
        hub: Callable[[], str],
        token: Callable[[], str],
        check: Callable[[AttemptId], None] = lambda _attempt: None,
        patience_s: float = PATIENCE_S,
        trust: Trust | None = None,
        ca_file: Path | None = None,
    ) -> None:
        self._trust, self._ca_file = trust or Trust(), ca_file
        self._hub, self._token, self._check, self._patience_s = hub, token, check, patience_s

    async def way(self, attempt: AttemptId, address: str) -> Way | None:
        """See :class:`Gate`."""
        began_at = monotonic()
        while True:
            try:
                return await self._ask(attempt, address)
            except RepositoryUnreachable as exc:
                if monotonic() - began_at > self._patience_s:
                    raise
                log.warning("hub_not_asked", task=attempt.task, epoch=attempt.epoch, why=str(exc))
                await asyncio.sleep(PAUSE_S)

    async def _ask(self, attempt: AttemptId, address: str) -> Way | None:
        import aiohttp  # only a sidecar with work in a repository of this kind pays for it

        self._check(attempt)
        hub = self._hub()
        asked = {"sidecar": attempt.sidecar, "boot": str(attempt.boot), "epoch": str(attempt.epoch)}
        url, headers = f"{hub}{PREFIX}/tasks/{attempt.task}/git-access", {"Authorization": f"Bearer {self._token()}"}
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=self._trust.known or True),
                    timeout=aiohttp.ClientTimeout(total=ASK_S),
                    trust_env=False,
                ) as session,
                session.post(url, params=asked, headers=headers, allow_redirects=False) as answer,
            ):
                status, body = answer.status, await answer.content.read(_MAX_ANSWER_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise RepositoryUnreachable(address, f"the hub does not answer ({type(exc).__name__})") from exc
        if status in _NONE:
            return None
        if status == HTTPStatus.CONFLICT and hub == self._hub():
            raise LeaseOver(attempt)
        try:
            access = msgspec.json.decode(body, type=GitAccess) if status == HTTPStatus.CREATED else None
        except msgspec.DecodeError:
            access = None
        if access is None:
            raise RepositoryUnreachable(address, f"the hub answers {status} when asked for a credential")
        return Way(f"{hub}{access.path}", access.token, await asyncio.to_thread(self._kept_authority))

    def _kept_authority(self) -> str:
        """The file that holds the authority of the hub; empty: none is pinned."""
        if self._ca_file is None or not self._trust.pem:
            return ""
        if not self._ca_file.is_file() or self._ca_file.read_text(encoding="ascii") != self._trust.pem:
            draft = self._ca_file.with_suffix(".new")
            draft.write_text(self._trust.pem, encoding="ascii")
            draft.replace(self._ca_file)
        return str(self._ca_file)

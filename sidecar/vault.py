"""The secrets of attempts: asked of the hub when the work begins, known to the redactor before any of it runs.

They are asked for over the line to the hub, which gives them to the holder of the attempt while its lease lasts. Here
they are kept in memory for as long as the attempt is held, and written down nowhere: programs find them in their
environment (``sidecar/sandbox/cell.py``). The caller is ``sidecar/rounds.py``.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

import structlog

from protocol.errors import StaleAttempt
from protocol.keystore import SecretUse
from protocol.messages import AskSecrets, Message, Secrets
from protocol.model import AttemptId
from protocol.redaction import Redactor
from protocol.secret_text import Values
from sidecar.errors import LeaseOver, SecretMissing, SecretsUnheard, SecretUnreadable

log = structlog.get_logger(__name__)
ASK_S: Final = 5.0
"""How long one answer may take: a question or an answer that is lost with its line is asked again."""
PATIENCE_S: Final = 60.0
"""How long it is asked again before the attempt is given back."""


class Vault(Protocol):
    """Where the secrets of attempts come from."""

    async def variables(self, attempt: AttemptId, uses: Sequence[SecretUse]) -> Mapping[str, str]:
        """The environment variables with the secrets that the attempt's task names.

        Raises:
            LeaseOver: the attempt does not count any more.
            SecretMissing, SecretUnreadable: the hub does not give one of them.
            SecretsUnheard: the hub does not answer.
        """
        ...


class HubVault:
    """The secrets that a hub gives.

    Args:
        send: sends a message to the hub, if the line stands.
        redactor: learns the values; whoever ends the attempt has it forget them, when nothing is told any more.
        check: raises if nothing may happen for an attempt any more.
        ask_s, patience_s: how long one answer is waited for, and how long it is asked again.
    """

    def __init__(
        self,
        send: Callable[[Message], None],
        redactor: Redactor,
        check: Callable[[AttemptId], None] = lambda _attempt: None,
        *,
        ask_s: float = ASK_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._send, self._redactor, self._check = send, redactor, check
        self._ask_s, self._patience_s = ask_s, patience_s
        self._waiting: dict[AttemptId, asyncio.Future[Secrets]] = {}

    def heard(self, message: Secrets) -> None:
        """The hub has answered; nobody waits for an answer that comes twice."""
        waiting = self._waiting.get(message.attempt)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    async def variables(self, attempt: AttemptId, uses: Sequence[SecretUse]) -> Mapping[str, str]:
        """See :class:`Vault`."""
        if not uses:
            return {}
        answer = await self._ask(attempt)
        self._check(attempt)
        if answer.code == StaleAttempt.code:
            raise LeaseOver(attempt)
        if answer.code:
            raise (SecretMissing if answer.code == SecretMissing.code else SecretUnreadable)(answer.detail)
        if missing := [use.name for use in uses if use.name not in answer.values]:
            raise SecretMissing(f"the hub has not given {', '.join(missing)}")
        await self._learn(attempt, answer.values.values())  # before anything runs that could tell of them
        log.info("secrets_received", task=attempt.task, epoch=attempt.epoch, names=sorted(answer.values))
        return {use.variable: answer.values[use.name] for use in uses}

    async def _learn(self, attempt: AttemptId, secrets: Iterable[str]) -> None:
        """Have them looked for; their forms are found on another thread, because that may take a second."""
        self._redactor.begin(attempt, secrets)
        is_known = False
        while not is_known:
            wanted = self._redactor.wanted
            is_known = self._redactor.adopt(wanted, await asyncio.to_thread(Values, wanted))

    async def _ask(self, attempt: AttemptId) -> Secrets:
        waiting: asyncio.Future[Secrets] = asyncio.get_running_loop().create_future()
        self._waiting[attempt] = waiting
        try:
            async with asyncio.timeout(self._patience_s):
                while True:
                    self._check(attempt)
                    self._send(AskSecrets(attempt=attempt))
                    done, _ = await asyncio.wait({waiting}, timeout=self._ask_s)
                    if done:
                        return waiting.result()
        except TimeoutError:
            raise SecretsUnheard(attempt.task, self._patience_s) from None
        finally:
            del self._waiting[attempt]


class NoVault:
    """Knows no secrets."""

    async def variables(self, attempt: AttemptId, uses: Sequence[SecretUse]) -> Mapping[str, str]:
        """See :class:`Vault`."""
        if uses:
            raise SecretsUnheard(attempt.task, 0.0)
        return {}

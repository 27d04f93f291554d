"""What the gateway asks of the services behind it (``hub/assembly.py`` passes them)."""

from collections.abc import Callable, Sequence
from typing import Protocol

from hub.core.agent import Held
from protocol import messages
from protocol.errors import AgentComError
from protocol.model import AttemptId
from protocol.salvage import Unreadable


class ResultsPort(Protocol):
    """Where messages of attempts go."""

    def take(
        self,
        agent: str,
        message: messages.Ordered,
        answer: Callable[[AgentComError | None], None],
        *,
        accepts: bool = False,
    ) -> None:
        """Act on it; call ``answer`` once, when its effect is stored or with why it has none.

        ``accepts``: a report of an attempt that its agent has accepted in the same breath.
        """
        ...

    def reports(
        self,
        agent: str,
        told: Sequence[tuple[messages.Report, messages.Accept | None]],
        answer: Callable[[Sequence[tuple[messages.Report, messages.Accept | None]], AgentComError | None], None],
    ) -> None:
        """Act on reports that came in a row, each with the acceptance that came with it.

        Call ``answer`` once for each, as above; for neighbours that fare alike it may be called once.
        """
        ...

    def unreadable(self, agent: str, message: Unreadable, answer: Callable[[AgentComError | None], None]) -> None:
        """One came that cannot be read: end what it was about; ``answer`` as above."""
        ...


class PresencePort(Protocol):
    """Where sidecars come and go."""

    async def hello(
        self, hello: messages.Hello, challenged_at: float | None = None
    ) -> tuple[tuple[messages.Verdict, ...], list[Held]]:
        """It introduces itself: a verdict for all that it holds, and what has to be sent to it again."""
        ...

    def cloned(self, hello: messages.Hello) -> AgentComError:
        """A sidecar that is at work holds the same key; what to answer."""
        ...

    def is_draining(self, name: str) -> bool:
        """Whether a person wants it to get no new work."""
        ...

    def holds(self, attempt: AttemptId) -> bool:
        """Whether the attempt is its sidecar's, now."""
        ...

    def ready(self, name: str, boot: int) -> None:
        """It has been welcomed and may get work."""
        ...

    def heartbeat(self, agent_name: str, heartbeat: messages.Heartbeat) -> list[AttemptId]:
        """It lives: the attempts that it names and must stop."""
        ...

    def behind(self, name: str, boot: int, *, is_behind: bool) -> None:
        """Much of what it was sent has not arrived, or no longer so much."""
        ...

    def gone(self, name: str, boot: int) -> None:
        """Its socket has closed."""
        ...


class ConductPort(Protocol):
    """Who remembers how sidecars keep to the protocol."""

    def violated(self, name: str, error: AgentComError) -> float:
        """A sidecar has violated it; for how many seconds it has to stay away."""
        ...

    def wait_s(self, name: str) -> float:
        """For how many seconds it still has to."""
        ...


class SecretsPort(Protocol):
    """Who keeps secrets."""

    def ask(self, agent: str, message: messages.AskSecrets, answer: Callable[[messages.Message], None]) -> None:
        """Answer a sidecar that wants the secrets of an attempt, soon."""
        ...

"""What does the work of attempts, as ``sidecar/runner.py`` sees it; ``sidecar/shop.py`` has the one that is real."""

from collections.abc import Callable, Mapping
from typing import Protocol

from protocol.messages import Carry, Proof
from protocol.model import AttemptId, EndpointReport, Routing, TaskResult, TaskSpec
from sidecar.core.outcome import Ending
from sidecar.executors.base import Called, Pauses
from sidecar.parts import Answers


class Work(Protocol):
    """The work of one attempt (``sidecar/rounds.py``).

    Attributes:
        noted: hears how it ends, before anything of it is seen elsewhere and before its place is given back.
    """

    noted: Callable[[Ending], None]

    @property
    def ending(self) -> Ending | None:
        """How it ended, as soon as that stands; ``None`` before, and if it was cut off."""
        ...

    async def work(self) -> Ending:
        """Do it all; whatever ends it (also cancellation) leaves nothing of it running."""
        ...

    def pause(self, reason: str) -> Pauses:
        """Stop at the end of the turn, if it knows turns; when it can stop at all."""
        ...

    def go_on(self) -> None:
        """Do not stop after all."""
        ...

    def result(self, error: str = "", error_code: str = "") -> TaskResult:
        """What there is so far."""
        ...


class Workshop(Protocol):
    """What attempts are done with (``sidecar/shop.py``)."""

    @property
    def executors(self) -> Mapping[str, object]:
        """Who can do the work, by name."""
        ...

    def begin(  # noqa: PLR0913 - what an attempt is, and who hears of it
        self,
        attempt: AttemptId,
        spec: TaskSpec,
        routing: Routing,
        *,
        executor: str,
        on_step: Callable[[str], None],
        log: Callable[[str, str], None],
        answering: Answers = ...,
        called: Called = ...,
        carry: Carry | None = None,
        proof: Proof | None = None,
    ) -> Work:
        """The work of an attempt, not begun yet.

        Args:
            attempt, spec, routing: what to do.
            executor: the name of who does it.
            on_step: hears the events ``start``, ``verify`` and ``fix`` of the attempt's table as they happen.
            log: takes live output (stream, text).
            answering: is given a way to ask how a model's answer comes along, ``None`` when none is on its way.
            called: hears which tools a model has called in a turn.
            carry: what an attempt of the same task has left to go on from.
            proof: what to run the checks on instead of doing anything.
        """
        ...

    def hurry(self, attempt: AttemptId) -> None:
        """End what is left of the attempt's work without grace: somebody else may be at it."""
        ...

    def adopt(self, endpoint: EndpointReport) -> None:
        """Learn of an endpoint that people have added at the hub.

        Raises:
            BadInput: it cannot be used here.
        """
        ...

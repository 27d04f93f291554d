"""The workshop that is real: begins the work of attempts with the parts of this sidecar (``sidecar/workshop.py``)."""

from collections.abc import Callable, Mapping

from protocol.messages import Carry, Proof
from protocol.model import AttemptId, EndpointReport, Routing, TaskSpec
from sidecar.executors.base import Called, Executor
from sidecar.parts import Answers, Parts
from sidecar.proving import Proving
from sidecar.rounds import Rounds


class Shop:
    """Where the attempts of a sidecar are worked on."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @property
    def executors(self) -> Mapping[str, Executor]:
        """Who can do the work, by name."""
        return self._parts.executors

    def begin(  # noqa: PLR0913 - what an attempt is, and who hears of it
        self,
        attempt: AttemptId,
        spec: TaskSpec,
        routing: Routing,
        *,
        executor: str,
        on_step: Callable[[str], None],
        log: Callable[[str, str], None],
        answering: Answers = lambda _ask: None,
        called: Called = lambda _turn, _calls: None,
        carry: Carry | None = None,
        proof: Proof | None = None,
    ) -> Rounds | Proving:
        """The work of an attempt, not begun yet; see :class:`sidecar.workshop.Workshop`."""
        if proof is not None:
            return Proving(self._parts, attempt, spec, proof, on_step=on_step, log=log)
        chosen = self.executors[executor]
        rounds = Rounds(self._parts, attempt, spec, routing, executor=chosen, on_step=on_step, log=log, carry=carry)
        rounds.answering, rounds.called = answering, called
        return rounds

    def hurry(self, attempt: AttemptId) -> None:
        """Kill what is left of the attempt's processes without grace."""
        self._parts.processes.hurry(attempt)

    def adopt(self, endpoint: EndpointReport) -> None:
        """Learn of an endpoint that people have added at the hub.

        Raises:
            BadInput: it cannot be used here.
        """
        self._parts.endpoints.adopt(endpoint)

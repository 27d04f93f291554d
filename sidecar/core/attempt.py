"""The states of an attempt at the sidecar, and when its lease forces it to stop.

Pure: states and times in, states and times out. An attempt only moves forward: what grows with every step is the pair
``(iteration, place of the state in the table's order)``. ``fix`` is the one edge that leads to an earlier state, and it
starts the next iteration, so the pair grows there too (:func:`step` keeps the two together; a property test holds it).
Callers: ``sidecar/runner.py`` for both, the documentation for the diagram.
"""

from dataclasses import dataclass
from typing import Final

from protocol.limits import LEASE_MARGIN_S
from protocol.model import AttemptState
from protocol.table import after as _after

ASSIGNED, ACCEPTED = AttemptState.ASSIGNED, AttemptState.ACCEPTED
RUNNING, VERIFYING = AttemptState.RUNNING, AttemptState.VERIFYING
PASSED, FAILED = AttemptState.PASSED, AttemptState.FAILED
LOST, CANCELLED = AttemptState.LOST, AttemptState.CANCELLED

ATTEMPT_EDGES: Final[dict[tuple[AttemptState, str], AttemptState]] = {
    (ASSIGNED, "accept"): ACCEPTED,
    (ACCEPTED, "start"): RUNNING,
    (RUNNING, "verify"): VERIFYING,
    (VERIFYING, "fix"): RUNNING,
    (VERIFYING, "pass"): PASSED,
    (ACCEPTED, "fail"): FAILED,
    (RUNNING, "fail"): FAILED,
    (VERIFYING, "fail"): FAILED,
    (ACCEPTED, "lose"): LOST,
    (RUNNING, "lose"): LOST,
    (VERIFYING, "lose"): LOST,
    (ACCEPTED, "cancel"): CANCELLED,
    (RUNNING, "cancel"): CANCELLED,
    (VERIFYING, "cancel"): CANCELLED,
}
ENDED: Final = frozenset({PASSED, FAILED, LOST, CANCELLED})


def after(state: AttemptState, event: str) -> AttemptState:
    """The state that ``event`` leads to.

    Raises:
        IllegalTransition: an attempt in ``state`` has no such event.
    """
    return _after(ATTEMPT_EDGES, "attempt", state, event)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an attempt stands: its state and the iteration it is in (0 before the first)."""

    state: AttemptState = ASSIGNED
    iteration: int = 0

    @property
    def has_ended(self) -> bool:
        """Nothing can happen to it any more."""
        return self.state in ENDED


def step(standing: Standing, event: str) -> Standing:
    """Where the attempt stands after ``event``; ``start`` and ``fix`` begin an iteration.

    Raises:
        IllegalTransition: an attempt in this state has no such event.
    """
    begins = event in {"start", "fix"}
    return Standing(after(standing.state, event), standing.iteration + begins)


def stop_at(proven_at: float, lease_s: float, margin_s: float = LEASE_MARGIN_S) -> float:
    """When the sidecar must stop its own work, in seconds of its monotonic clock.

    The hub gives an attempt away when it has heard nothing for ``lease_s``. The last moment of which the sidecar
    *knows* that the hub heard it is ``proven_at`` (it sent something then, and an answer to it came back), so the lease
    cannot end before ``proven_at + lease_s``, whatever the two clocks show; the margin is the time it takes to kill a
    process tree. A lease too short for the margin is halved, so that there is time to work at all.
    """
    return proven_at + max(lease_s - margin_s, lease_s / 2)


def kill_at(proven_at: float, lease_s: float) -> float:
    """When somebody else has to kill the work of a sidecar that has not stopped it: half way to the lease's end."""
    return (stop_at(proven_at, lease_s) + proven_at + lease_s) / 2

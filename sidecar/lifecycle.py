"""The states of the sidecar itself: a table, and the machine that follows it.

``draining`` outlives a broken line: it says that no new work is taken, whether the hub can be reached or not. Changes
are logged; nothing is decided here. Caller: ``sidecar/app.py``.
"""

from enum import StrEnum
from typing import Final

import structlog
from transitions import Machine

from protocol.table import after, allowed

log = structlog.get_logger(__name__)


class SidecarState(StrEnum):
    """Where the sidecar stands."""

    STARTING = "starting"
    CONNECTING = "connecting"
    ONLINE = "online"
    DRAINING = "draining"
    STOPPING = "stopping"


STARTING, CONNECTING, ONLINE = SidecarState.STARTING, SidecarState.CONNECTING, SidecarState.ONLINE
DRAINING, STOPPING = SidecarState.DRAINING, SidecarState.STOPPING

SIDECAR_EDGES: Final[dict[tuple[SidecarState, str], SidecarState]] = {
    (STARTING, "dial"): CONNECTING,
    (CONNECTING, "dial"): CONNECTING,
    (CONNECTING, "welcome"): ONLINE,
    (ONLINE, "lose"): CONNECTING,
    (STARTING, "drain"): DRAINING,
    (CONNECTING, "drain"): DRAINING,
    (ONLINE, "drain"): DRAINING,
    (DRAINING, "drain"): DRAINING,
    (DRAINING, "dial"): DRAINING,
    (DRAINING, "welcome"): DRAINING,
    (DRAINING, "lose"): DRAINING,
    (STARTING, "stop"): STOPPING,
    (CONNECTING, "stop"): STOPPING,
    (ONLINE, "stop"): STOPPING,
    (DRAINING, "stop"): STOPPING,
}


class Lifecycle:
    """The sidecar's own state, moved by events of the link and of signals."""

    def __init__(self) -> None:
        self._machine = Machine(
            model=None,
            states=[state.value for state in SidecarState],
            initial=STARTING.value,
            auto_transitions=False,
            transitions=[[event, was.value, now.value] for (was, event), now in SIDECAR_EDGES.items()],
        )
        self._machine.add_model(self, initial=STARTING.value)

    @property
    def now(self) -> SidecarState:
        """Where the sidecar stands."""
        return SidecarState(self.__dict__["state"])

    def fire(self, event: str) -> SidecarState:
        """Let ``event`` happen.

        Raises:
            IllegalTransition: the table has no such event in this state.
        """
        was = self.now
        after(SIDECAR_EDGES, "sidecar", was, event)  # our error, with what would have been allowed
        self._machine.events[event].trigger(self)
        if self.now is not was:
            log.info("sidecar_state", was=was.value, now=self.now.value, event_name=event)
        return self.now

    def may(self, event: str) -> bool:
        """Whether the table has this event in the present state."""
        return event in allowed(SIDECAR_EDGES, self.now)

"""What the machine has, and what of it the hub has not heard yet. Pure; the caller is :mod:`sidecar.link`."""

from typing import NamedTuple

from msgspec.structs import replace

from protocol.endpoints import EndpointTrouble
from protocol.machine import HostReading
from protocol.model import EndpointReport


class News(NamedTuple):
    """What a heartbeat has to tell; ``None``: as it was."""

    reading: HostReading | None
    endpoints: tuple[EndpointReport, ...] | None
    capabilities: tuple[str, ...] | None
    troubles: tuple[EndpointTrouble, ...] | None


class Facts:
    """What the hub is to know of the machine.

    Attributes:
        endpoints, capabilities: as they are now.
        troubles: what is wrong with endpoints now.
    """

    def __init__(self) -> None:
        self.endpoints: tuple[EndpointReport, ...] = ()
        self.capabilities: tuple[str, ...] = ()
        self.troubles: tuple[EndpointTrouble, ...] = ()
        self._reading: HostReading | None = None
        self._told: HostReading | None = None  # the last reading on this connection
        self._untold: set[str] = set()

    def learn(
        self,
        reading: HostReading | None,
        endpoints: tuple[EndpointReport, ...] | None,
        capabilities: tuple[str, ...] | None,
        troubles: tuple[EndpointTrouble, ...] | None = None,
    ) -> bool:
        """Keep what is given; ``True`` if the hub should hear of it at once."""
        if reading is not None:
            self._reading = reading
            self._untold.add("reading")
        is_urgent = False
        if endpoints is not None and endpoints != self.endpoints:
            self.endpoints, is_urgent = endpoints, True
            self._untold.add("endpoints")
        if capabilities is not None and capabilities != self.capabilities:
            self.capabilities, is_urgent = capabilities, True
            self._untold.add("capabilities")
        if troubles is not None and troubles != self.troubles:
            self.troubles, is_urgent = troubles, True
            self._untold.add("troubles")
        return is_urgent

    def greeted(self) -> None:
        """A new connection, whose hello tells endpoints and capabilities."""
        self._untold = {"reading", "troubles"} if self._reading else {"troubles"}
        self._told = None

    def news(self) -> News:
        """What has not been told; it counts as told from now on."""
        untold, self._untold = self._untold, set()
        reading = None
        if "reading" in untold and self._reading is not None:
            reading, self._told = changed(self._reading, self._told), self._reading
        return News(
            reading,
            self.endpoints if "endpoints" in untold else None,
            self.capabilities if "capabilities" in untold else None,
            self.troubles if "troubles" in untold else None,
        )


def changed(reading: HostReading, told: HostReading | None) -> HostReading:
    """``reading`` without what is as it was in ``told``."""
    if told is None:
        return reading
    return replace(
        reading,
        cards=None if reading.cards == told.cards else reading.cards,
        holders=None if reading.holders == told.holders else reading.holders,
        notes=None if reading.notes == told.notes else reading.notes,
    )

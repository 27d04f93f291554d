"""The changes around LLM endpoints, and their rows; ``changes.py`` passes them on."""

from msgspec import Struct

from hub.core.health import Health
from protocol.endpoints import EndpointReport
from protocol.events import Event


class EndpointRow(Struct, frozen=True, kw_only=True):
    """An LLM endpoint that a person has added."""

    id: str
    kind: str
    url: str
    local: bool
    default_model: str = ""
    rpm: int = 0
    tpm: int = 0
    """Requests and tokens that it may be asked a minute; 0: as many as one likes."""


class HealthRow(Struct, frozen=True, kw_only=True):
    """How an endpoint was last seen, and how it does. ``host`` is empty for one that people have added."""

    host: str
    seen: EndpointReport
    health: Health


class PutEndpoint(Struct, frozen=True):
    """Keep an endpoint, new or changed. Outcome: ``None``; NotFound if it is not new and was removed meanwhile."""

    endpoint: EndpointRow
    event: Event
    is_new: bool = True


class RemoveEndpoint(Struct, frozen=True):
    """Forget an endpoint and its health. Outcome: ``None``, or NotFound."""

    id: str
    event: Event


class PutHealth(Struct, frozen=True):
    """Keep how an endpoint does, with the fact that led there if it is worth telling. Outcome: ``None``."""

    row: HealthRow
    event: Event | None = None


class ForgetHealth(Struct, frozen=True):
    """Forget an endpoint that only sidecars of ``host`` have told of. Outcome: ``None``."""

    host: str
    id: str

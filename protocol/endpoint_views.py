"""Shapes of LLM endpoints and their models under ``/api/v1``; :mod:`protocol.endpoints` has what sidecars report."""

from datetime import datetime

from msgspec import Struct

from protocol.bounds import Whole, Word
from protocol.model import EndpointKind, ModelReport


class EndpointModel(ModelReport, frozen=True, kw_only=True, omit_defaults=False):
    """A model of an endpoint with all its fields, also those that are not known.

    ``tokens_per_s`` is what work was seen to get where its server does not tell.
    """

    last_used_at: datetime | None = None
    """When work last used it there."""


class EndpointView(Struct, kw_only=True):
    """An LLM endpoint: reported by a sidecar that can reach it, or added by a person."""

    id: str
    kind: EndpointKind
    url: str
    host: str | None
    """The host whose sidecar serves it; ``None`` for one that the hub was told about."""
    local: bool
    state: str
    """``up``, ``degraded`` or ``down``."""
    detail: str
    checked_at: datetime | None
    models: tuple[EndpointModel, ...]
    default_model: str
    agents: tuple[str, ...]
    """Agents that can use it now."""
    health: str = ""
    """``online``, ``offline``, ``cooldown``, ``half_open``, or ``unknown``: nobody who could ask it is connected."""
    since: datetime | None = None
    """When it came into this health."""
    until: datetime | None = None
    """When its cooldown, or the trial after it, is over."""
    parallel: int = 0
    """Requests that it says that it answers at a time; 0: it does not say."""
    turns: int = 0
    proved: int = 0
    """Requests that it is given at a time now, learnt where it does not say; and that were seen not to wait."""
    rpm: int = 0
    tpm: int = 0
    """Requests and tokens that it may be asked a minute; 0: no quota."""
    last_used_at: datetime | None = None
    """When work last used any of its models."""


class EndpointList(Struct, kw_only=True):
    """All endpoints, by id."""

    endpoints: tuple[EndpointView, ...]
    next_cursor: str | None = None


class EndpointBody(Struct, kw_only=True, forbid_unknown_fields=True):
    """``POST /endpoints``. Sidecars get the address, never a key: they use the key in their own settings."""

    kind: EndpointKind
    url: Word
    id: Word = ""
    local: bool | None = None
    default_model: Word = ""
    rpm: Whole | None = None
    tpm: Whole | None = None


class EndpointPatch(Struct, kw_only=True, forbid_unknown_fields=True):
    """``PATCH /endpoints/{id}``: what is left out stays."""

    url: Word | None = None
    local: bool | None = None
    default_model: Word | None = None
    rpm: Whole | None = None
    tpm: Whole | None = None
    """Requests and tokens a minute; 0: no quota."""


class ModelView(Struct, kw_only=True):
    """A model on an endpoint."""

    name: str
    endpoint: str
    host: str | None
    local: bool
    residency: str
    size_bytes: int | None
    vram_bytes: int | None
    context: int | None
    resident_bytes: int | None = None
    expires_at: datetime | None = None
    max_context: int | None = None
    health: str = ""
    """How its endpoint does: ``online``, ``offline``, ``cooldown``, ``half_open`` or ``unknown``."""
    tokens_per_s: float | None = None
    """What its server tells, or work was seen to get."""
    last_used_at: datetime | None = None
    """When work last used it there."""


class ModelList(Struct, kw_only=True):
    """All models on all endpoints."""

    models: tuple[ModelView, ...]
    next_cursor: str | None = None

"""Bearer tokens, as changes and rows of the store; what the verbs do is ``verbs.py``."""

from msgspec import Struct

from hub.core.access import Scope
from protocol.events import Event


class TokenRow(Struct, frozen=True, kw_only=True):
    """A bearer token; only the digest of its secret is kept."""

    id: str
    role: str
    label: str
    digest: bytes
    created_ms: int
    expires_ms: int | None = None
    last_used_ms: int | None = None
    revoked_ms: int | None = None
    scope: Scope = Scope()


class AddToken(Struct, frozen=True):
    """Keep a new token. Outcome: ``None``."""

    token: TokenRow
    event: Event


class RevokeToken(Struct, frozen=True):
    """A token ends. Outcome: ``None``, or NotFound."""

    id: str
    at_ms: int
    event: Event


class TouchTokens(Struct, frozen=True):
    """When tokens were last used, by id (Unix ms). Outcome: ``None``."""

    used: dict[str, int]

"""The key of a machine on the wire: how it and its signatures are written, and what is signed when its sidecar dials.

A machine makes an Ed25519 key when it joins (``provisioning/keys.py``) and keeps it beside its token. With every hello
its sidecar names the public half; the hub answers with a random challenge, and lets it in when the answer is signed. So
whoever has heard or stolen the token alone opens no connection, and what was recorded of one opens no other.
"""

import base64
import binascii
from typing import Final

from protocol.errors import Refused

KEY_FILE: Final = "machine.key"
"""Name of the private half in the state directory, 64 hexadecimal digits."""
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
NONCE_BYTES: Final = 32


class WrongKey(Refused):
    """The connection is not signed with the key of the machine that has this name; ``why`` says what is missing."""

    code = "wrong_key"

    def __init__(self, name: str, why: str) -> None:
        self.name, self.why = name, why
        super().__init__(name, why)

    def __str__(self) -> str:
        return f"{self.name!r} has joined with a key of its own, and {self.why}; on the machine itself: agentcom rejoin"


def text(raw: bytes) -> str:
    """Bytes in base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(written: str, length: int) -> bytes | None:
    """The bytes that :func:`text` has written; ``None``: they are not, or not so many."""
    try:
        raw = base64.b64decode(written.encode("ascii") + b"=" * (-len(written) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    # One spelling only: a machine is its key, and must not be there twice.
    return raw if len(raw) == length and text(raw) == written else None


def said_at_hello(nonce: str, channel: str, sidecar: str, boot: int) -> bytes:
    """What a sidecar signs when it dials.

    Args:
        nonce: the challenge, as the hub has sent it: it is used once.
        channel: SHA-256 of the certificate that the sidecar sees at the other end of this connection (64 hexadecimal
            digits), empty without TLS: what somebody between the two passes on does not fit
            (``tls-server-end-point``, RFC 5929 section 4).
        sidecar, boot: of its hello.
    """
    return "\n".join(("agentcom mesh 1", nonce, channel, sidecar, str(boot))).encode()


def is_signed(key: bytes, said: bytes, signature: bytes) -> bool:
    """Whether the holder of ``key`` (Ed25519, 32 bytes) has signed ``said``."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, said)
    except (InvalidSignature, ValueError):
        return False
    return True

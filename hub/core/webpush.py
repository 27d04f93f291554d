"""Messages for browsers by Web Push: sealed for one subscription, and signed by the hub that sends them.

The push service between hub and browser sees neither a word of the message nor can it write one: the browser has made
the keys that it is sealed for (RFC 8291, in the form ``aes128gcm`` of RFC 8188). It knows the hub by the key that the
browser has subscribed with, and takes messages from nobody else (VAPID, RFC 8292).

Pure: key, salt and time are arguments. Who sends is ``hub/pushes.py``.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol.alerts import BrowserBody
from protocol.errors import Problem

SALT_BYTES: Final = 16
AUTH_BYTES: Final = 16
RECORD_BYTES: Final = 4_096
"""What every push service has to take (RFC 8030, section 7.2)."""
MOST_BYTES: Final = RECORD_BYTES - 103
"""Of a message, so that it is one record with its head, mark and tag (RFC 8291, section 4)."""
SIGNED_S: Final = 12 * 3_600
"""How long a signature is good; the standard allows a day."""
_CURVE: Final = ec.SECP256R1()
_HALF: Final = 32


def b64(data: bytes) -> str:
    """Bytes as the push world writes them: base64url without padding (RFC 7515)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """The bytes again.

    Raises:
        ValueError: it is none.
    """
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as exc:
        raise ValueError("expected base64url") from exc


def mark(endpoint: str) -> str:
    """By what a browser knows its own subscription among others, whose address is nobody's business."""
    return hashlib.sha256(endpoint.encode()).hexdigest()[:16]


# --- keys -------------------------------------------------------------------------------------------------------------


def key_text(key: ec.EllipticCurvePrivateKey) -> str:
    """A private key as text."""
    return b64(key.private_numbers().private_value.to_bytes(_HALF, "big"))


def key_of(text: str) -> ec.EllipticCurvePrivateKey:
    """The private key in a text."""
    return ec.derive_private_key(int.from_bytes(unb64(text), "big"), _CURVE)


def public(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public half, as browsers take it: the point, uncompressed."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def problems_of(body: BrowserBody) -> Iterator[Problem]:
    """What is wrong with the keys of a subscription."""
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, unb64(body.keys.p256dh))
    except ValueError:
        yield Problem("keys.p256dh", "expected a point of the curve P-256, in base64url")
    try:
        auth = unb64(body.keys.auth)
    except ValueError:
        auth = b""
    if len(auth) != AUTH_BYTES:
        yield Problem("keys.auth", f"expected {AUTH_BYTES} bytes in base64url")


# --- a message --------------------------------------------------------------------------------------------------------


def sealed(plain: bytes, browser: bytes, auth: bytes, key: ec.EllipticCurvePrivateKey, salt: bytes) -> bytes:
    """A message that only one browser can read.

    Args:
        plain: at most ``MOST_BYTES``.
        browser: its public key, a point of P-256, uncompressed.
        auth: the secret that it has made with the key.
        key: made for this message alone.
        salt: 16 random bytes.
    """
    assert len(plain) <= MOST_BYTES, "a push message is one record"
    ours = public(key)
    shared = key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, browser))
    secret = _hkdf(shared, auth, b"WebPush: info\0" + browser + ours, 32)
    content_key = _hkdf(secret, salt, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _hkdf(secret, salt, b"Content-Encoding: nonce\0", 12)
    head = salt + RECORD_BYTES.to_bytes(4, "big") + bytes([len(ours)]) + ours
    return head + AESGCM(content_key).encrypt(nonce, plain + b"\2", None)  # 2: the last record


def _hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt, info).derive(secret)


def authorization(key: ec.EllipticCurvePrivateKey, endpoint: str, now_s: int, contact: str) -> str:
    """The header that shows the push service who sends.

    Args:
        key: the one that browsers have subscribed with.
        endpoint: where the message goes; the signature is good at this service alone.
        now_s: Unix time.
        contact: where people who run the service find those who run the hub, ``https:`` or ``mailto:``.
    """
    parts = urlsplit(endpoint)
    claims = {"aud": f"{parts.scheme}://{parts.netloc}", "exp": now_s + SIGNED_S, "sub": contact}
    words = ".".join(b64(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ES256"}, claims))
    r, s = decode_dss_signature(key.sign(words.encode(), ec.ECDSA(hashes.SHA256())))
    signature = r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")
    return f"vapid t={words}.{b64(signature)}, k={b64(public(key))}"

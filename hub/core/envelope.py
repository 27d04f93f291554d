"""Seal small secrets, so that whoever holds the store without the key learns nothing of them and can exchange none.

AES-256-GCM (NIST SP 800-38D) over the value. What the value is of (its kind, name and version) is authenticated with it
and not stored: a row that was put in another's place, or an older one under a newer version, does not open. Each sealed
value names its key, so keys can be exchanged while values of the old one are still about.

Pure: the nonce is an argument. Keys and their file are ``hub/vault.py``.

A sealed value is ``1 | key id (8 bytes) | nonce (12 bytes) | ciphertext | tag (16 bytes)``.
"""

import base64
import binascii
import json
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocol.errors import Conflict

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
SECRET: Final = "secret"  # noqa: S105 - a kind, no secret
"""Kind of a value that is kept by its name: what people set, and keys that the hub has made for itself."""
NOTIFIER: Final = "notifier"
"""Kind of the address and the secret of somebody who is told of alerts, which are sealed together."""
TEXT: Final = "sealed:"
"""What a sealed value begins with where the store keeps text. No address does: it has a ``//`` behind its colon."""
_FORM: Final = b"\1"
_ID_BYTES: Final = 8
_HEAD_BYTES: Final = len(_FORM) + _ID_BYTES + NONCE_BYTES
_TAG_BYTES: Final = 16


class Unsealable(Conflict):
    """A sealed value does not open here; ``about`` is whose it is, the value itself is never told."""

    code = "secret_unreadable"

    def __init__(self, about: str, why: str) -> None:
        self.about, self.why = about, why
        super().__init__(about, why)

    def __str__(self) -> str:
        return f"{self.about} cannot be opened: {self.why}"


class About(NamedTuple):
    """Whose value it is. None of the parts holds a NUL."""

    kind: str
    name: str
    version: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def bound(self) -> bytes:
        """What is authenticated beside the value."""
        return b"\0".join((b"agentcom", self.kind.encode(), self.name.encode(), str(self.version).encode()))


def key_id(key: bytes) -> str:
    """What a key is called: 16 hexadecimal digits that tell nothing of it."""
    return sha256(b"agentcom keystore key\0" + key).digest()[:_ID_BYTES].hex()


def id_in(sealed: bytes) -> str:
    """The id of the key that it is sealed with; empty: it is no sealed value."""
    if len(sealed) < _HEAD_BYTES + _TAG_BYTES or sealed[:1] != _FORM:
        return ""
    return sealed[1 : 1 + _ID_BYTES].hex()


def as_text(sealed: bytes) -> str:
    """A sealed value as text."""
    return TEXT + base64.b64encode(sealed).decode()


def from_text(text: str) -> bytes | None:
    """The sealed value in a text; ``None``: it holds none."""
    if not text.startswith(TEXT):
        return None
    try:
        sealed = base64.b64decode(text[len(TEXT) :], validate=True)
    except binascii.Error:
        return None
    return sealed if id_in(sealed) else None


def way_text(url: str, secret: str) -> str:
    """Address and secret of a notifier in one text, to be sealed together."""
    return json.dumps([url, secret])


def way_in(text: str) -> tuple[str, str]:
    """Address and secret of a notifier, from :func:`way_text`."""
    url, secret = json.loads(text)
    return url, secret


def seal(key: bytes, about: About, plain: bytes, nonce: bytes) -> bytes:
    """``plain``, sealed with ``key``.

    Args:
        key: 32 bytes.
        about: whose value it is; it opens as this only.
        plain: the value.
        nonce: 12 random bytes that were never used with this key.
    """
    assert len(nonce) == NONCE_BYTES, "a nonce of GCM has 12 bytes"
    head = _FORM + bytes.fromhex(key_id(key)) + nonce
    return head + AESGCM(key).encrypt(nonce, plain, head + about.bound)


def unseal(keys: dict[str, bytes], about: About, sealed: bytes) -> bytes:
    """The value.

    Args:
        keys: those there are, by id.
        about: whose value it has to be.
        sealed: as :func:`seal` gave it.
    Raises:
        Unsealable: its key is not among these, or it is damaged, or another's.
    """
    if not (name := id_in(sealed)):
        raise Unsealable(str(about), "what the store holds is no sealed value")
    if (key := keys.get(name)) is None:
        raise Unsealable(str(about), f"it is sealed with the key {name}, which this hub does not have")
    head = sealed[:_HEAD_BYTES]
    try:
        return AESGCM(key).decrypt(head[1 + _ID_BYTES :], sealed[_HEAD_BYTES:], head + about.bound)
    except InvalidTag as exc:
        raise Unsealable(str(about), "what the store holds was changed, or belongs to another name or version") from exc

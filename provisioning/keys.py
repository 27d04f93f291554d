"""The key of a machine: made on it, kept on it, and what it signs. Nothing but the public half ever leaves.

A new key lies beside the one that counts until the hub knows it: a machine that is killed in between goes on with both.
"""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.keys import text
from provisioning.places import Note, Places, write_private


def ensure(places: Places, note: Note) -> Ed25519PrivateKey:
    """The key of this machine, made if there is none."""
    return _read(places.key) or _make(places.key, note)


def renew(places: Places, note: Note) -> Ed25519PrivateKey:
    """The key that is to come in the place of the one that counts, made if there is none."""
    return _read(places.next_key) or _make(places.next_key, note)


def coming(places: Places) -> Ed25519PrivateKey | None:
    """The key that is to come, if one was made."""
    return _read(places.next_key)


def adopt(places: Places) -> None:
    """The hub knows the key that was to come: it counts now, and the one before is gone."""
    if places.next_key.is_file():
        places.next_key.replace(places.key)


def public(key: Ed25519PrivateKey) -> str:
    """The public half, as it is sent."""
    return text(key.public_key().public_bytes_raw())


def _read(file: Path) -> Ed25519PrivateKey | None:
    if not file.is_file():
        return None
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(file.read_text(encoding="ascii").strip()))


def _make(file: Path, note: Note) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    write_private(file, key.private_bytes_raw().hex() + "\n", note)
    return key

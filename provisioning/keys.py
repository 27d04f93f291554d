"""The key of a machine: made on it, kept on it, and what it signs. Nothing but the public half ever leaves."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.keys import text
from provisioning.places import Note, Places, write_private


def ensure(places: Places, note: Note) -> Ed25519PrivateKey:
    """The key of this machine, made if there is none."""
    if places.key.is_file():
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(places.key.read_text(encoding="ascii").strip()))
    key = Ed25519PrivateKey.generate()
    write_private(places.key, key.private_bytes_raw().hex() + "\n", note)
    return key


def public(key: Ed25519PrivateKey) -> str:
    """The public half, as it is sent."""
    return text(key.public_key().public_bytes_raw())

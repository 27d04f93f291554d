"""The key of this machine, if it has joined with one: read afresh before every dial, so that a new one counts at once.

``provisioning/keys.py`` makes it. What is signed with it is :func:`protocol.keys.said_at_hello`; the private half never
leaves this module.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from protocol.errors import BadInput, Problem
from protocol.keys import KEY_BYTES, KEY_FILE, said_at_hello, text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class Signer:
    """Signs what hubs ask; ``public`` is its key as it is told."""

    def __init__(self, key: "Ed25519PrivateKey") -> None:
        self._key = key
        self.public = text(key.public_key().public_bytes_raw())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signer) and other.public == self.public

    def __hash__(self) -> int:
        return hash(self.public)

    def sign(self, nonce: str, channel: str, sidecar: str, boot: int) -> str:
        """The answer to a challenge; the arguments are those of :func:`protocol.keys.said_at_hello`."""
        return text(self._key.sign(said_at_hello(nonce, channel, sidecar, boot)))


def signer_in(folder: Path) -> Signer | None:
    """What signs for the machine whose state directory this is; ``None``: it has no key.

    Raises:
        BadInput: there is one, and it cannot be read.
    """
    file = folder / KEY_FILE
    try:
        raw = bytes.fromhex(file.read_text(encoding="ascii").strip())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        raise BadInput([Problem(KEY_FILE, f"cannot read {file}: {exc}")], "key of this machine") from exc
    if len(raw) != KEY_BYTES:
        problem = f"{file} holds {len(raw)} bytes, not {KEY_BYTES}; agentcom rejoin makes a new one"
        raise BadInput([Problem(KEY_FILE, problem)], "key of this machine")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Signer(Ed25519PrivateKey.from_private_bytes(raw))

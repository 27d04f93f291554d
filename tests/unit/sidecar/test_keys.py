"""The promises about the key that a sidecar finds in its state directory."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.errors import BadInput
from protocol.keys import KEY_FILE, decoded, is_signed, said_at_hello
from sidecar.keys import signer_in


def test_a_machine_without_a_key_signs_nothing(tmp_path: Path) -> None:
    assert signer_in(tmp_path) is None


def test_the_key_is_read_as_it_lies_there_now(tmp_path: Path) -> None:
    known = set()
    for _ in range(2):
        key = Ed25519PrivateKey.generate()
        (tmp_path / KEY_FILE).write_text(key.private_bytes_raw().hex() + "\n")
        signer = signer_in(tmp_path)
        assert signer is not None
        public, signature = decoded(signer.public, 32), decoded(signer.sign("n", "c", "a", 1), 64)
        assert public == key.public_key().public_bytes_raw()
        assert public
        assert signature
        assert is_signed(public, said_at_hello("n", "c", "a", 1), signature)
        known.add(signer.public)

    assert len(known) == 2


@pytest.mark.parametrize("held", ["", "no key", "ab" * 31, "\u00e9"])
def test_a_key_that_cannot_be_read_is_told_with_its_file(tmp_path: Path, held: str) -> None:
    (tmp_path / KEY_FILE).write_text(held, encoding="utf-8")

    with pytest.raises(BadInput, match=KEY_FILE):
        signer_in(tmp_path)

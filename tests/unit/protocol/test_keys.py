"""The promises about keys on the wire: one spelling, and what is signed holds every part of a connection."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol.keys import KEY_BYTES, WrongKey, decoded, is_signed, said_at_hello, text


def test_what_is_signed_at_a_hello_is_stable_and_holds_every_part() -> None:
    said = said_at_hello("nonce", "ab" * 32, "Arbitrary", 7)

    assert said == b"agentcom mesh 1\nnonce\n" + b"ab" * 32 + b"\nArbitrary\n7"
    others = (("other", "", "a", 1), ("nonce", "c", "a", 1), ("nonce", "", "b", 1), ("nonce", "", "a", 2))
    assert len({said_at_hello(*parts) for parts in (("nonce", "", "a", 1), *others)}) == 5


@pytest.mark.parametrize("written", ["", "A" * 42, "A" * 44, "A" * 42 + "B", "A" * 43 + "=", "\u00e9" * 43, "!" * 43])
def test_a_key_has_one_spelling(written: str) -> None:
    assert decoded(text(bytes(KEY_BYTES)), KEY_BYTES) == bytes(KEY_BYTES)
    assert decoded(written, KEY_BYTES) is None


def test_only_the_holder_of_a_key_signs_with_it() -> None:
    ours, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    public = ours.public_key().public_bytes_raw()

    assert is_signed(public, b"said", ours.sign(b"said"))
    assert not is_signed(public, b"said", ours.sign(b"other"))
    assert not is_signed(public, b"said", other.sign(b"said"))
    assert not is_signed(public[:31], b"said", ours.sign(b"said"))


def test_a_wrong_key_is_told_with_the_way_out() -> None:
    assert str(WrongKey("Arbitrary", "this connection shows none")) == (
        "'Arbitrary' has joined with a key of its own, and this connection shows none; "
        "on the machine itself: agentcom rejoin"
    )

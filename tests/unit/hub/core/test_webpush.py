"""Messages for browsers: the vectors of the standards, what the bounds are, and what keys cannot be."""

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from msgspec import json

from hub.core.webpush import (
    MOST_BYTES,
    SIGNED_S,
    authorization,
    b64,
    key_of,
    key_text,
    mark,
    problems_of,
    public,
    sealed,
    unb64,
)
from protocol.alerts import BrowserBody, BrowserKeys

# RFC 8291, appendix A
PLAIN = unb64("V2hlbiBJIGdyb3cgdXAsIEkgd2FudCB0byBiZSBhIHdhdGVybWVsb24")
SENDER = key_of("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw")
BROWSER = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
SALT = unb64("DGv6ra1nlYgDCS1FRnbzlw")
SEALED = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_"
    "yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)


def body(p256dh: str = BROWSER, auth: str = AUTH) -> BrowserBody:
    return BrowserBody(endpoint="https://push.example.net/x", keys=BrowserKeys(p256dh=p256dh, auth=auth))


def test_a_message_is_sealed_as_the_standard_does() -> None:
    assert sealed(PLAIN, unb64(BROWSER), unb64(AUTH), SENDER, SALT) == unb64(SEALED)


def test_the_longest_message_is_one_record_that_every_service_takes() -> None:
    message = sealed(b"x" * MOST_BYTES, unb64(BROWSER), unb64(AUTH), SENDER, SALT)

    assert len(message) == 4096
    with pytest.raises(AssertionError, match="one record"):
        sealed(b"x" * (MOST_BYTES + 1), unb64(BROWSER), unb64(AUTH), SENDER, SALT)


def test_a_key_comes_back_from_its_text_also_with_zeros_before_it() -> None:
    for number in (1, 2**200, SENDER.private_numbers().private_value):
        key = ec.derive_private_key(number, ec.SECP256R1())
        assert key_of(key_text(key)).private_numbers() == key.private_numbers()
    assert public(SENDER)[:1] == b"\4"


def test_the_signature_is_good_and_for_this_service_alone() -> None:
    scheme, token, key = authorization(SENDER, "https://push.example.net:8443/a/b?c", 1_000, "mailto:a@b.c").split(" ")
    head, claims, signature = token.removeprefix("t=").rstrip(",").split(".")
    raw = unb64(signature)
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    SENDER.public_key().verify(encode_dss_signature(r, s), f"{head}.{claims}".encode(), ec.ECDSA(hashes.SHA256()))

    assert (scheme, len(raw), unb64(key.removeprefix("k="))) == ("vapid", 64, public(SENDER))
    assert json.decode(unb64(head)) == {"typ": "JWT", "alg": "ES256"}
    told = {"aud": "https://push.example.net:8443", "exp": 1_000 + SIGNED_S, "sub": "mailto:a@b.c"}
    assert json.decode(unb64(claims)) == told
    assert SIGNED_S < 86_400


@pytest.mark.parametrize(
    "p256dh, auth, wrong",
    [
        (BROWSER, AUTH, []),
        (BROWSER[:-2], AUTH, ["keys.p256dh"]),
        (b64(b"\4" + b"\1" * 64), AUTH, ["keys.p256dh"]),
        ("!!", "!!", ["keys.p256dh", "keys.auth"]),
        (BROWSER, b64(b"x" * 15), ["keys.auth"]),
        ("\u00e9", "\u00e9", ["keys.p256dh", "keys.auth"]),
    ],
    ids=["good", "cut off", "not on the curve", "no base64", "short", "no ASCII"],
)
def test_keys_that_are_none_are_named_all_at_once(p256dh: str, auth: str, wrong: list[str]) -> None:
    assert [problem.path for problem in problems_of(body(p256dh, auth))] == wrong


def test_a_browser_is_marked_by_its_address_alone() -> None:
    assert mark("https://push.example.net/x") == "ffa6f25e7154d19a"
    assert mark("https://push.example.net/y") != mark("https://push.example.net/x")

import secrets
from collections.abc import Callable

import pytest

from protocol.errors import BadInput
from protocol.joining import (
    CODE,
    JoinRefused,
    NotYetApproved,
    code_of,
    join_token,
    make_secret,
    read_token,
    secret_id,
    signed,
)

PIN = "ab" * 32


def test_a_token_tells_its_hub_its_id_and_its_secret() -> None:
    token_id, secret = make_secret(secrets.randbits)
    for pin in (PIN, "web", "open"):
        token = join_token(pin, secret)

        assert token.startswith(f"acj1.{pin}.")
        assert read_token(f" {token}\n") == (pin, secret)
        assert secret_id(secret) == token_id


def test_the_form_of_a_token_is_stable() -> None:
    assert join_token("web", make_secret(lambda bits: (1 << bits) - 1)[1]) == (
        "acj1.web.zzzzzzzzzzzz_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz3e5wknn"
    )


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda token: token[:-1], "cut off"),
        (lambda token: token + "0", "a character too many"),
        (lambda token: token[:-9] + ("1" if token[-9] == "0" else "0") + token[-8:], "mistyped"),
        (lambda token: token.replace("acj1", "acm_"), "start with 'acj1.'"),
        (lambda token: token.replace(PIN, PIN[:-1]), "which hub"),
        (lambda token: token.replace(PIN, PIN[:-1] + "G"), "which hub"),
        (lambda _: "", "start with"),
        (lambda token: token.replace(PIN + ".", ""), "which hub"),
    ],
)
def test_what_is_wrong_with_a_token_is_told_without_asking_anybody(change: Callable[[str], str], says: str) -> None:
    token = join_token(PIN, make_secret(secrets.randbits)[1])

    with pytest.raises(BadInput, match=says):
        read_token(change(token))


def test_both_sides_make_the_same_code_of_a_key() -> None:
    assert code_of("A" * 43) == code_of("A" * 43) != code_of("B" * 43)
    assert CODE.fullmatch(code_of("A" * 43))


def test_what_is_signed_holds_every_word_of_the_request_and_no_secret() -> None:
    said = signed("key", 1, "secret", "name")

    assert b"secret" not in said
    assert len({said, signed("k", 1, "secret", "name"), signed("key", 2, "secret", "name")}) == 3
    assert said != signed("key", 1, "other", "name")
    assert said != signed("key", 1, "secret", "")


def test_refusals_say_what_to_do() -> None:
    assert str(JoinRefused("make a new one")) == "make a new one"
    assert str(NotYetApproved("abcde-fghij")) == "the machine abcde-fghij waits for a person to approve it"

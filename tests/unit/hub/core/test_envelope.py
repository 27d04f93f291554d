"""The promises of sealed values: without the key they tell nothing, and none opens in another's place."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.core.envelope import (
    TEXT,
    About,
    Unsealable,
    as_text,
    from_text,
    id_in,
    key_id,
    seal,
    unseal,
    way_in,
    way_text,
)

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
KEYS = {key_id(KEY): KEY}
ABOUT = About("secret", "TOKEN", 3)
NONCE = bytes(range(12))
SEALED = seal(KEY, ABOUT, b"hunter2-hunter2", NONCE)
FIXED = "01e4d4d7a13ba01dbb000102030405060708090a0b2f77b86fa097f036e534f9ffd49b4a4d08d31d524e33a940d85d885cbfc5e6"


def test_a_sealed_value_opens_with_its_key_as_what_it_was_sealed() -> None:
    assert unseal(KEYS, ABOUT, SEALED) == b"hunter2-hunter2"
    assert id_in(SEALED) == key_id(KEY)
    assert b"hunter2" not in SEALED


def test_the_form_of_a_sealed_value_is_fixed() -> None:
    # Values that are stored today have to open for ever: form, id of the key, nonce, then the text and its tag.
    assert SEALED.hex() == FIXED
    assert (SEALED[:1], SEALED[1:9].hex(), SEALED[9:21], len(SEALED)) == (b"\1", key_id(KEY), NONCE, 37 + 15)


@pytest.mark.parametrize(
    "about",
    [
        About("secret", "OTHER", 3),
        About("secret", "TOKEN", 2),
        About("secret", "TOKEN", 4),
        About("notifier", "TOKEN", 3),
    ],
)
def test_a_value_does_not_open_as_another_name_version_or_kind(about: About) -> None:
    with pytest.raises(Unsealable, match="was changed, or belongs to another name or version"):
        unseal(KEYS, about, SEALED)


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_a_value_with_any_byte_changed_does_not_open(place: int, change: int) -> None:
    changed = bytearray(SEALED)
    changed[place] ^= change

    with pytest.raises(Unsealable):
        unseal(KEYS, ABOUT, bytes(changed))


@pytest.mark.parametrize("length", [0, 1, 20, 36, len(SEALED) - 1])
def test_a_value_that_is_cut_off_does_not_open(length: int) -> None:
    with pytest.raises(Unsealable):
        unseal(KEYS, ABOUT, SEALED[:length])


def test_another_key_does_not_open_it_and_the_error_names_the_key_and_not_the_value() -> None:
    with pytest.raises(Unsealable) as caught:
        unseal({key_id(OTHER): OTHER}, ABOUT, SEALED)
    with pytest.raises(Unsealable):
        unseal({key_id(KEY): OTHER}, ABOUT, SEALED)  # it only goes by the name of the right one

    told = f"secret TOKEN cannot be opened: it is sealed with the key {key_id(KEY)}, which this hub does not have"
    assert str(caught.value) == told


def test_a_sealed_value_in_a_text_is_told_from_an_address() -> None:
    assert from_text(as_text(SEALED)) == SEALED
    addresses = ["https://example.org/hook", "mailtos://a:b@example.org", "", TEXT, f"{TEXT}//x", f"{TEXT}AAAA"]
    assert [from_text(text) for text in addresses] == [None] * len(addresses)


def test_address_and_secret_of_a_notifier_come_back_as_they_were() -> None:
    assert way_in(way_text("https://e.org/a?b", 'se"cret')) == ("https://e.org/a?b", 'se"cret')

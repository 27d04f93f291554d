"""The promises about a machine's key: made once, for its owner only; another counts when the hub has it."""

from pathlib import Path

import pytest

from provisioning import keys
from provisioning.places import Note, Places, places_of


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return places_of({"HOME": str(tmp_path)}, is_root=False)


def test_a_key_is_made_once_and_for_its_owner_only(places: Places) -> None:
    made = keys.public(keys.ensure(places, Note()))

    assert keys.public(keys.ensure(places, Note())) == made
    assert places.key.stat().st_mode & 0o077 == 0
    assert keys.coming(places) is None


def test_a_new_key_waits_beside_the_one_that_counts_until_it_is_adopted(places: Places) -> None:
    note = Note()
    old, new = keys.public(keys.ensure(places, note)), keys.public(keys.renew(places, note))
    assert keys.public(keys.renew(places, note)) == new != old  # killed and begun again: no third one
    assert keys.public(keys.ensure(places, note)) == old
    assert places.next_key.stat().st_mode & 0o077 == 0
    for _ in range(2):
        keys.adopt(places)

    assert keys.public(keys.ensure(places, note)) == new
    assert keys.coming(places) is None

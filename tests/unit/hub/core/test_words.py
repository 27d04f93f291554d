"""How words are compared."""

import pytest

from hub.core.words import folded


@pytest.mark.parametrize(
    "one, other",
    [
        ("LOGIN", "login"),
        ("STRASSE", "straße"),
        ("ÉCOLE", "école"),
        ("cafe\u0301", "CAFÉ"),
        ("\uff37\uff29\uff24\uff25", "wide"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
        ("ﬁx", "FIX"),
    ],
)
def test_what_people_read_as_one_is_one(one: str, other: str) -> None:
    assert folded(one) == folded(other)
    assert folded(folded(one)) == folded(one)


def test_accents_count() -> None:
    assert folded("cafe") != folded("café")

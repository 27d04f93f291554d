"""Which output of all tasks a reader wants."""

import pytest

from hub.core.output import Wanted

PIECE = {"task": "t", "agent": "One", "labels": {"team": "x"}, "stream": "stdout", "text": "Über all\n"}


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(),
        Wanted(task="t", agent="One", stream="stdout"),
        Wanted(label=("team", "x")),
        Wanted(words="ÜBER"),
    ],
)
def test_what_fits_every_filter_is_wanted(wanted: Wanted) -> None:
    assert wanted.takes(**PIECE)  # type: ignore[arg-type]  # the fields of a piece


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(task="u"),
        Wanted(agent="one"),
        Wanted(stream="stderr"),
        Wanted(label=("team", "y")),
        Wanted(label=("x", "team")),
        Wanted(task="t", words="nothing"),
    ],
)
def test_what_fails_one_is_not(wanted: Wanted) -> None:
    assert not wanted.takes(**PIECE)  # type: ignore[arg-type]  # the fields of a piece

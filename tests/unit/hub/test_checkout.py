"""User and password that an older version kept by project: they go to their address, or away, and never elsewhere."""

import os
from pathlib import Path
from typing import Final

import pytest

from hub.checkout import Checkouts

ADDRESS: Final = "https://example.org/r.git"
CHANGED_MS: Final = 1_700_000_000_000


def _kept(folder: Path, after_s: float, project: str = "p") -> Path:
    """A file of an older version that was written so long after the project was changed last."""
    file = folder / project / "login"
    file.parent.mkdir(parents=True)
    file.write_text("username=u\npassword=p\n")
    stamp = CHANGED_MS / 1000 + after_s
    os.utime(file, (stamp, stamp))
    return file


def test_what_was_kept_for_the_address_of_the_project_is_of_use_again(tmp_path: Path) -> None:
    old, checkouts = _kept(tmp_path, 0.1), Checkouts(tmp_path, (), {})
    lost = checkouts.sort_logins({"p": (ADDRESS, CHANGED_MS)})
    login = checkouts.of("p").login(ADDRESS)

    assert lost == []
    assert not old.exists()
    assert login is not None
    assert login.read() == ("u", "p")
    assert checkouts.sort_logins({"p": (ADDRESS, CHANGED_MS)}) == [], "once is enough"
    assert checkouts.of("p").login(ADDRESS) is not None


def test_what_may_have_been_for_an_earlier_address_is_removed_and_told(tmp_path: Path) -> None:
    old, checkouts = _kept(tmp_path, -3_600.0), Checkouts(tmp_path, (), {})

    assert checkouts.sort_logins({"p": (ADDRESS, CHANGED_MS)}) == ["p"]
    assert not old.exists()
    assert checkouts.of("p").login(ADDRESS) is None


@pytest.mark.parametrize("sources", [{}, {"p": ("", CHANGED_MS)}])
def test_what_nobody_can_use_does_not_stay_on_the_disk(tmp_path: Path, sources: dict[str, tuple[str, int]]) -> None:
    old, checkouts = _kept(tmp_path, 0.1), Checkouts(tmp_path, (), {})

    assert checkouts.sort_logins(sources) == []
    assert not old.exists()
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_what_was_given_since_is_not_replaced_by_what_was_kept_before(tmp_path: Path) -> None:
    old, checkouts = _kept(tmp_path, 0.1), Checkouts(tmp_path, (), {})
    checkouts.of("p").keep_login(ADDRESS, "new", "newer")
    lost = checkouts.sort_logins({"p": (ADDRESS, CHANGED_MS)})
    login = checkouts.of("p").login(ADDRESS)

    assert (lost, old.exists()) == ([], False)
    assert login is not None
    assert login.read() == ("new", "newer")


def test_without_clones_there_is_nothing_to_sort(tmp_path: Path) -> None:
    assert Checkouts(tmp_path / "none", (), {}).sort_logins({"p": (ADDRESS, CHANGED_MS)}) == []

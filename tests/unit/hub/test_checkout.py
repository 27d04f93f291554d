"""The promises of a clone at the hub: no login goes to another address, and no tree makes the hub run anything."""

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from hub.checkout import Checkouts
from tests.support.depth import dig
from tests.support.repositories import git, make_remote

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


ATTRIBUTES: Final = "* filter=trap diff=trap merge=trap working-tree-encoding=UTF-8 ident\n[attr]trapped filter=trap\n"
FILES: Final = {
    ".gitattributes": ATTRIBUTES,
    "deep/.gitattributes": "*.txt trapped text eol=crlf\n",
    "deep/a.txt": "one\n",
    "a.txt": "one\n",
    ".lfsconfig": "[lfs]\n\turl = https://example.org/trap\n",
    ".gitmodules": '[submodule "s"]\n\tpath = s\n\turl = ext::trap\n\tupdate = !trap\n',
    ".gitignore": "*.log\n",
}


def _trapped_home(folder: Path) -> tuple[Path, Path]:
    """A home whose git runs a trap for every filter, diff, merge, hook and monitor; and what the trap leaves."""
    sprung, trap = folder / "sprung", folder / "trap"
    trap.write_text(f'#!/bin/sh\necho "$0 $*" >> {sprung}\ncat\n')
    trap.chmod(0o755)
    (folder / "hooks").mkdir()
    for hook in (
        "post-checkout",
        "pre-commit",
        "post-commit",
        "commit-msg",
        "reference-transaction",
        "post-index-change",
    ):
        (folder / "hooks" / hook).symlink_to(trap)
    text = "".join(
        f'[filter "{name}"]\n\tclean = {trap}\n\tsmudge = {trap}\n\trequired = true\n'
        f'[diff "{name}"]\n\ttextconv = {trap}\n\tcommand = {trap}\n[merge "{name}"]\n\tdriver = {trap} %A\n'
        for name in ("trap", "lfs")
    )
    (folder / ".gitconfig").write_text(f"{text}[core]\n\thooksPath = {folder}/hooks\n\tfsmonitor = {trap}\n")
    return folder, sprung


def _springs(repository: Path, clone: Path, env: dict[str, str], sprung: Path) -> bool:
    """Whether the trap is armed: git as its user has it runs it for a checkout."""
    subprocess.run(["git", "clone", "--quiet", repository, clone], env=env, check=True)
    has_sprung = sprung.exists()
    sprung.unlink(missing_ok=True)
    return has_sprung


async def test_attributes_of_a_tree_make_the_hub_run_nothing_whatever_its_users_git_is_set_to(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    home, sprung = _trapped_home(tmp_path / "home")
    remote = make_remote(tmp_path, FILES)
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    checkout = Checkouts(tmp_path / "projects", (str(tmp_path),), env).of("p")
    assert _springs(remote.path, tmp_path / "user", env, sprung)

    await checkout.clone(str(remote.path), "main")
    (checkout.tree / "a.txt").write_text("two\n")
    (checkout.tree / "b.txt").write_text("new\n")
    await checkout.add(())
    commit = await checkout.commit("Change", "Me <me@example.org>")
    await checkout.branch("side", "")
    await checkout.checkout("side")
    view = await checkout.view(str(remote.path))
    await checkout.push(str(remote.path), "side")

    assert (checkout.tree / "deep" / "a.txt").read_bytes() == b"one\r\n"  # what git does by itself is done
    assert set(commit.files) == {"a.txt", "b.txt"}
    assert view.branch == "side"
    assert git(remote.path, "show", "side:a.txt") == "two"
    assert not sprung.exists(), sprung.read_text()


def test_a_clone_goes_however_deep_it_is(tmp_path: Path) -> None:
    dig(tmp_path / "p")
    Checkouts(tmp_path, (), {}).of("p").remove()

    assert list(tmp_path.iterdir()) == []


def test_a_login_that_is_gone_or_damaged_is_none(tmp_path: Path) -> None:
    place = Checkouts(tmp_path, (), {}).of("p")
    place.keep_login(ADDRESS, "u", "p")
    login = place.login(ADDRESS)
    assert login is not None

    for damaged in (b"", b"username=u\n", b"\xff\xfe"):
        login.file.write_bytes(damaged)
        assert login.read() is None
    place.forget_logins()
    assert login.read() is None

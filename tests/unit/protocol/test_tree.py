import os
import socket
from pathlib import Path

import pytest

from protocol.errors import BadInput
from protocol.tree import Tree, names_of


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root = tmp_path / "root"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a.py").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to(tmp_path)
    (root / "here").symlink_to("src/a.py")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("git's own")
    return Tree(root)


OUTSIDE = [
    "/etc/passwd",
    "~/x",
    "../secret",
    "src/../../secret",
    "src/..",
    "a\\b",
    ".git/config",
    ".GIT/config",
    "src/.git",
    "a\0b",
    "x\ny",
    "\ud800",
    "x" * 2000,
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_path_leads_out(tree: Tree, path: str) -> None:
    for use in (tree.exists, tree.read_bytes, tree.entries, lambda p: tree.write_bytes(p, b"x")):
        with pytest.raises(BadInput, match="path has 1 problem"):
            use(path)


@pytest.mark.parametrize("path", ["link", "up/secret", "here"])
def test_no_link_is_followed(tree: Tree, path: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="link"):
        tree.read_bytes(path)
    with pytest.raises(BadInput):
        tree.write_bytes(path, b"overwritten")

    assert not tree.exists(path)
    assert (tmp_path / "secret").read_text() == "outside"


def test_a_hard_link_to_something_outside_keeps_its_content(tree: Tree, tmp_path: Path) -> None:
    os.link(tmp_path / "secret", tree.root / "hard")

    tree.write_bytes("hard", b"new")

    assert tree.read_bytes("hard") == b"new"
    assert (tmp_path / "secret").read_text() == "outside"


def test_what_is_inside_is_read_written_and_listed(tree: Tree) -> None:
    tree.write_bytes("new/deep/b.txt", b"fresh")
    tree.write_bytes("./src//a.py", b"changed")

    assert tree.read_bytes("new/deep/b.txt") == b"fresh"
    assert tree.read_bytes("src/a.py", 3) == b"cha"
    assert tree.entries("new") == [("deep", "directory")]
    assert tree.entries(".") == [
        ("here", "link"),
        ("link", "link"),
        ("new", "directory"),
        ("src", "directory"),
        ("up", "link"),
    ]
    assert tree.exists("src")
    assert tree.exists(".")
    assert not tree.exists("nothing")


def test_a_file_keeps_its_mode_and_leaves_nothing_beside_it(tree: Tree) -> None:
    script = tree.root / "src" / "a.py"
    script.chmod(0o755)

    tree.write_bytes("src/a.py", b"#!/bin/sh")

    assert script.stat().st_mode & 0o777 == 0o755
    assert [entry.name for entry in script.parent.iterdir()] == ["a.py"]


@pytest.mark.parametrize(
    "path, why",
    [
        ("nothing", "is not there"),
        ("src", "is no regular file"),
        (".", "is no regular file"),
        ("src/a.py/b", "is no directory"),
        ("pipe", "is no regular file"),
        ("socket", "cannot be used"),
    ],
)
def test_what_cannot_be_read_is_said_and_never_waited_for(tree: Tree, path: str, why: str) -> None:
    os.mkfifo(tree.root / "pipe")
    here = Path.cwd()
    os.chdir(tree.root)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
    os.chdir(here)

    with pytest.raises(BadInput, match=why):
        tree.read_bytes(path)


@pytest.mark.parametrize("path", [".", "src", "src/a.py/b"])
def test_what_cannot_be_written_is_said(tree: Tree, path: str) -> None:
    with pytest.raises(BadInput):
        tree.write_bytes(path, b"x")


def test_a_list_of_what_is_no_directory_is_refused(tree: Tree) -> None:
    with pytest.raises(BadInput, match="is no directory"):
        tree.entries("src/a.py")


def test_the_workspace_itself_has_no_names() -> None:
    assert names_of(".") == names_of("") == names_of("./") == ()
    assert names_of("a/./b//c") == ("a", "b", "c")

"""The promises of ``agentcom git`` in a working copy: it finds the project, loses nothing and forces nothing."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agentcom.working_copy import GitSaysNo, WorkingCopy, key_of, same, slug
from protocol.errors import BadInput
from protocol.projects import ProjectList, ProjectView, TaskDefaults
from tests.support.repositories import Remote, git, make_remote

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def project(name: str, repository: str) -> ProjectView:
    return ProjectView(
        name=name, repository=repository, directory="", branch="", priority=None, defaults=TaskDefaults(),
        description="", default=False, has_credential=False, is_cloned=False, created_at=NOW, changed_at=NOW,
    )  # fmt: skip


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    made = make_remote(tmp_path, {"a.txt": "one\n"})
    git(made.clone, "config", "user.email", "Jörg.Müller@example.org")
    git(made.clone, "config", "user.name", "Jörg")
    return made


@pytest.mark.parametrize(
    "one, other, is_same",
    [
        ("https://h.example.org/a/b.git", "https://h.example.org/a/b", True),
        ("https://H.example.org/a/b", "https://u:p@h.example.org/a/b.git/", True),
        ("https://h.example.org/a/b.git", "git@h.example.org:a/b.git", True),
        ("https://h.example.org/a/b.git", "ssh://git@h.example.org:2222/a/b", True),
        ("/srv/a/b.git", "/srv/a/b", True),
        ("https://h.example.org/a/b", "https://h.example.org/a/c", False),
        ("https://h.example.org/a/b", "https://other.example.org/a/b", False),
        ("https://h.example.org/a/b", "", False),
        ("", "", False),
    ],
)
def test_addresses_of_one_repository_are_known_as_one(one: str, other: str, is_same: bool) -> None:
    assert same(one, other) is is_same


@pytest.mark.parametrize(
    "text, name",
    [("Mend add()!", "mend-add"), ("\u00c4ndern", "andern"), ("--", "x"), ("a/../b", "a-b"), ("x" * 99, "x" * 48)],
)  # fmt: skip
def test_a_title_becomes_a_part_of_a_branch(text: str, name: str) -> None:
    assert slug(text) == name


def test_a_branch_begins_at_the_newest_state_and_another_one_gets_a_number(remote: Remote, tmp_path: Path) -> None:
    copy = WorkingCopy(remote.clone)
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", str(remote.path), str(other))
    git(other, "-c", "user.name=B", "-c", "user.email=b@b", "commit", "--quiet", "--allow-empty", "--message", "Newer")
    git(other, "push", "--quiet", "origin", "HEAD:main")
    first = copy.start("Mend it", project("p", str(remote.path)), "main")
    assert git(remote.clone, "rev-parse", "HEAD") == remote.tip("main")
    second = copy.start("Mend it", project("p", str(remote.path)), "main")

    assert (first, second) == ("work/jorg-muller/mend-it", "work/jorg-muller/mend-it-2")
    assert (copy.branch, copy.noted(second, "title"), copy.noted(second, "project")) == (second, "Mend it", "p")
    assert copy.noted("main", "title") == ""


def test_how_a_branch_stands_is_told(remote: Remote) -> None:
    copy = WorkingCopy(remote.clone)
    branch = copy.start("Mend it", project("p", str(remote.path)), "main")
    before = copy.standing("main")
    (remote.clone / "a.txt").write_text("two\n")
    (remote.clone / "new file.txt").write_text("x\n")
    dirty = copy.standing("main")
    git(remote.clone, "add", "--all")
    git(remote.clone, "commit", "--quiet", "--message", "Two")
    copy.push(branch)
    after = copy.standing("main")

    assert (before.ahead, before.behind, before.changes, before.is_pushed) == (0, 0, (), False)
    assert dirty.changes == ("a.txt", "new file.txt")
    assert (after.ahead, after.changes, after.is_pushed, after.commit) == (1, (), True, remote.tip(branch))


def test_nothing_is_lost_and_nothing_is_forced(remote: Remote) -> None:
    copy = WorkingCopy(remote.clone)
    branch = copy.start("Mend it", project("p", str(remote.path)), "main")
    git(remote.clone, "commit", "--quiet", "--allow-empty", "--message", "One")
    copy.push(branch)
    git(remote.clone, "commit", "--quiet", "--allow-empty", "--amend", "--message", "Another")
    with pytest.raises(GitSaysNo, match="git push"):
        copy.push(branch)
    remote.commit({"a.txt": "three\n"}, branch="changed")
    (remote.clone / "a.txt").write_text("mine\n")
    with pytest.raises(GitSaysNo, match="git switch"):
        copy.start("Else", project("p", str(remote.path)), "main")

    assert (remote.clone / "a.txt").read_text() == "mine\n"
    with pytest.raises(GitSaysNo, match="git fetch"):
        copy.start("Else", project("p", str(remote.path)), "no-such-branch")


def test_the_project_is_found_by_the_address_or_by_its_name(remote: Remote) -> None:
    copy = WorkingCopy(remote.clone)
    mine, twin, other = project("mine", str(remote.path)), project("twin", str(remote.path)), project("other", "/x/y")

    assert copy.project(ProjectList(projects=(mine, other))).name == "mine"
    assert copy.project(ProjectList(projects=(mine, twin)), "twin").name == "twin"
    with pytest.raises(BadInput, match=r"2 projects are at .*: mine, twin"):
        copy.project(ProjectList(projects=(mine, twin)))
    with pytest.raises(BadInput, match=r"0 projects are at .*: other"):
        copy.project(ProjectList(projects=(other,)))
    with pytest.raises(BadInput, match="no project 'none'"):
        copy.project(ProjectList(projects=(other,)), "none")


def test_outside_of_a_repository_or_a_branch_that_is_said(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    git(remote.clone, "checkout", "--quiet", "--detach")

    with pytest.raises(BadInput, match="is in no git repository"):
        WorkingCopy(tmp_path / "empty")
    with pytest.raises(BadInput, match="no branch is checked out"):
        _ = WorkingCopy(remote.clone).branch
    assert WorkingCopy(remote.clone).default_branch() == "main"


def test_the_same_parts_make_the_same_key() -> None:
    assert key_of(["a", "b"]) == key_of(["a", "b"])
    assert key_of(["a", "b"]) != key_of(["ab", ""])
    assert len(key_of(["a"])) <= 64

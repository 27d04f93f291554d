"""What work has changed is seen, whatever it has written into its own repository."""

import os
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.model import AttemptId, Context, FailureClass, TaskSpec
from protocol.removal import remove_tree
from sidecar.changes import changes_of, history_of, marks_of
from sidecar.core.marks import differing
from sidecar.environment import minimal_env
from sidecar.errors import GitFailed, WorkUnreadable, failure_of
from sidecar.process import Processes
from sidecar.workspace import Workspace, Workspaces
from tests.support.repositories import Remote, git, make_remote

ATTEMPT = AttemptId("sidecar", 1, "01j0000000000000000000000a", 1)
FILES = {"test_a.py": "assert f() == 1\n", "a.py": "def f(): ...\n", ".gitignore": "*.log\nconftest.py\n.venv\n"}


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return make_remote(tmp_path, FILES)


@pytest.fixture
def workspaces(tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path / "state", Processes(base_env=minimal_env(os.environ, home=tmp_path), grace_s=0.2))


async def opened(workspaces: Workspaces, remote: Remote) -> Workspace:
    return await workspaces.open(ATTEMPT, TaskSpec(title="x", context=Context(repo=str(remote.path))), "agent")


def assumed(work: Workspace) -> None:
    git(work.path, "update-index", "--assume-unchanged", "test_a.py")
    (work.path / "test_a.py").write_text("assert True\n")


def skipped(work: Workspace) -> None:
    git(work.path, "update-index", "--skip-worktree", "test_a.py")
    (work.path / "test_a.py").write_text("assert True\n")


def same_stat(work: Workspace) -> None:
    """The index says that it has seen the changed file, and holds the old content."""
    file = work.path / "test_a.py"
    file.write_text("assert True\n")
    old = git(work.path, "rev-parse", "HEAD:test_a.py")
    git(work.path, "add", "test_a.py")
    new = git(work.path, "rev-parse", ":test_a.py")
    index = work.git_dir / "index"
    forged = index.read_bytes().replace(bytes.fromhex(new), bytes.fromhex(old))
    index.write_bytes(forged)
    git(work.path, "-c", "core.fsmonitor=false", "update-index", "--index-version=4")  # with a check sum that fits


def other_objects(work: Workspace) -> None:
    """The base's own content is said to be what the work has made of it."""
    name = git(work.path, "rev-parse", "HEAD:test_a.py")
    (work.path / "test_a.py").write_text("assert True\n")
    forged = work.git_dir / "objects" / name[:2] / name[2:]
    forged.parent.mkdir(parents=True, exist_ok=True)
    forged.write_bytes(zlib.compress(b"blob 12\0assert True\n"))


@pytest.mark.parametrize("hide", [assumed, skipped, same_stat, other_objects])
async def test_no_index_and_no_object_of_the_work_hides_a_change(
    workspaces: Workspaces, remote: Remote, hide: Callable[[Workspace], None]
) -> None:
    work = await opened(workspaces, remote)
    hide(work)
    (change,) = await changes_of(workspaces, work)

    assert (change.path, change.removed) == ("test_a.py", ("assert f() == 1",))
    assert not work.sight_dir.exists()


@pytest.mark.parametrize("hide", [assumed, skipped, same_stat])
async def test_what_is_delivered_is_what_lies_there(
    workspaces: Workspaces, remote: Remote, hide: Callable[[Workspace], None]
) -> None:
    work = await opened(workspaces, remote)
    hide(work)
    await workspaces.commit(work, "Work", "agent")
    await workspaces.push(work)

    assert git(remote.path, "show", f"{work.branch}:test_a.py") == "assert True"


async def test_the_base_that_tests_are_compared_with_is_the_one_of_the_remote(
    workspaces: Workspaces, remote: Remote, tmp_path: Path
) -> None:
    work = await opened(workspaces, remote)
    other_objects(work)
    await workspaces.archive(work, tmp_path / "base.tar")

    assert b"assert f() == 1" in (tmp_path / "base.tar").read_bytes()


async def test_the_base_is_whole_whatever_its_attributes_leave_out_of_archives(
    workspaces: Workspaces, remote: Remote, tmp_path: Path
) -> None:
    told = {"deep/.gitattributes": "* export-ignore\n", "deep/test_b.py": "assert b\n", "c.py": "# $Format:%H$\n"}
    remote.commit({".gitattributes": "test_a.py export-ignore\nc.py export-subst\n", **told})
    work = await opened(workspaces, remote)
    await workspaces.archive(work, tmp_path / "base.tar")
    with tarfile.open(tmp_path / "base.tar") as tar:
        held = {entry.name: tar.extractfile(entry) for entry in tar.getmembers() if entry.isfile()}
        texts = {name: file.read() for name, file in held.items() if file is not None}

    assert texts["test_a.py"] == b"assert f() == 1\n"
    assert texts["deep/test_b.py"] == b"assert b\n"
    assert texts["c.py"] == b"# $Format:%H$\n"


async def test_a_repository_of_its_own_hides_no_ignored_file_that_steers_tests(
    workspaces: Workspaces, remote: Remote
) -> None:
    work = await opened(workspaces, remote)
    packages = work.path / ".venv" / "lib" / "site-packages"
    (packages / "some" / "deep").mkdir(parents=True)
    for name in ("sitecustomize.py", "conftest.py", "some/deep/usercustomize.py"):
        (packages / name).write_text("x")
    for folder in (work.path / ".venv", packages / "some"):
        git(folder, "init", "--quiet")
    found = [change.path for change in await changes_of(workspaces, work)]

    expected = ["sitecustomize.py", "some/deep/usercustomize.py"]
    assert found == [f".venv/lib/site-packages/{name}" for name in expected]
    assert await workspaces.strangers(work) == ()  # what git ignores is not delivered anyhow


async def test_repositories_of_their_own_are_told_and_never_delivered_by_their_name(
    workspaces: Workspaces, remote: Remote
) -> None:
    tip = git(remote.path, "rev-parse", "main")
    git(remote.clone, "update-index", "--add", "--cacheinfo", f"160000,{tip},known")
    git(remote.clone, "commit", "--quiet", "--message=Link")
    git(remote.clone, "push", "--quiet", "origin", "HEAD:refs/heads/main")
    work = await opened(workspaces, remote)
    assert await workspaces.strangers(work) == ()
    for name in ("empty", "full", "added"):
        (work.path / name).mkdir()
        (work.path / name / "file").write_text("x")
        git(work.path / name, "init", "--quiet")
    for name in ("full", "added"):
        git(work.path / name, "add", "file")
        git(work.path / name, "commit", "--quiet", "--message=Mine")
    git(work.path, "add", "added")
    (work.path / "a.py").write_text("changed\n")

    assert await workspaces.strangers(work) == ("added", "empty", "full")
    commit = await workspaces.commit(work, "Done", "agent")  # a draft: what can be kept is kept
    assert set(git(work.path, "show", "--format=", "--name-only", commit).split()) == {"a.py", "added"}
    for name in ("empty", "full", "added"):
        remove_tree(work.path / name / ".git")
    git(work.path, "rm", "--quiet", "--cached", "added")
    assert await workspaces.strangers(work) == ()


async def test_ignored_files_count_if_they_steer_tests_or_are_delivered(workspaces: Workspaces, remote: Remote) -> None:
    work = await opened(workspaces, remote)
    (work.path / "build.log").write_text("x")
    (work.path / "forced.log").write_text("x")
    (work.path / "deep").mkdir()
    (work.path / "deep" / "conftest.py").write_text("collect_ignore = ['x']")
    packages = work.path / ".venv" / "lib" / "site-packages"
    packages.mkdir(parents=True)
    for name in ("sitecustomize.py", "conftest.py", "some.pth"):
        (packages / name).write_text("x")
    git(work.path, "add", "--force", "forced.log")
    found = [change.path for change in await changes_of(workspaces, work)]

    assert found == [".venv/lib/site-packages/sitecustomize.py", "deep/conftest.py", "forced.log"]


async def test_what_any_commit_of_the_work_has_added_is_seen(workspaces: Workspaces, remote: Remote) -> None:
    work = await opened(workspaces, remote)
    assert await history_of(workspaces, work) == ()
    (work.path / "a.py").write_text("key = 'one'\n")
    (work.path / "data").write_bytes(b"k\0e\0y\0")
    git(work.path, "add", "--all")
    git(work.path, "commit", "--message=Add it\n\ndiff --git a/x b/x\n+key")
    git(work.path, "revert", "--no-edit", "HEAD")
    said = {change.path: [line for _, line in change.added] for change in await history_of(workspaces, work)}
    added = {change.path: change.added for change in await history_of(workspaces, work) if change.is_new}

    assert [line.strip() for line in said.pop("the message")][-4:] == ["Add it", "", "diff --git a/x b/x", "+key"]
    assert added == {"data": ((1, "k\0e\0y\0"),)}
    assert set(said) == {"a.py", "data"}
    assert not work.sight_dir.exists()


async def test_no_object_of_the_work_hides_what_a_commit_has_added(workspaces: Workspaces, remote: Remote) -> None:
    """A forged object would not be delivered, either."""
    work = await opened(workspaces, remote)
    (work.path / "a.py").write_text("key = 'one'\n")
    git(work.path, "commit", "--all", "--message=Add it")
    name = git(work.path, "rev-parse", "HEAD:a.py")
    forged = work.git_dir / "objects" / name[:2] / name[2:]
    forged.chmod(0o600)
    forged.write_bytes(zlib.compress(b"blob 12\0key = 'two'\n"))
    with pytest.raises(GitFailed):
        await history_of(workspaces, work)


async def test_what_the_work_commits_without_a_repository_is_new(workspaces: Workspaces) -> None:
    work = await workspaces.open(ATTEMPT, TaskSpec(title="x"), "agent")
    (work.path / "a.py").write_text("# TODO\n")
    git(work.path, "add", "a.py")
    git(work.path, "commit", "--message=Done")
    (change,) = await changes_of(workspaces, work)

    assert (change.path, change.is_new, change.added) == ("a.py", True, ((1, "# TODO"),))


async def test_a_file_that_is_only_in_the_index_is_not_delivered_unseen(workspaces: Workspaces, remote: Remote) -> None:
    work = await opened(workspaces, remote)
    (work.path / "pytest.ini").write_text("[pytest]\naddopts = --deselect x\n")
    git(work.path, "add", "pytest.ini")
    git(work.path, "update-index", "--skip-worktree", "pytest.ini")
    (work.path / "pytest.ini").unlink()
    (work.path / "a.py").write_text("def f(): return 1\n")

    assert [change.path for change in await changes_of(workspaces, work)] == ["a.py"]
    assert await workspaces.commit(work, "Work", "agent")
    assert git(work.path, "ls-tree", "--name-only", "HEAD") == ".gitignore\na.py\ntest_a.py"


async def test_files_that_a_sparse_checkout_leaves_out_are_not_deleted(workspaces: Workspaces, remote: Remote) -> None:
    work = await opened(workspaces, remote)
    git(work.path, "update-index", "--skip-worktree", "test_a.py")
    (work.path / "test_a.py").unlink()
    (work.path / "a.py").write_text("def f(): return 1\n")

    assert await workspaces.commit(work, "Work", "agent")
    assert git(work.path, "ls-tree", "--name-only", "HEAD") == ".gitignore\na.py\ntest_a.py"


async def test_any_file_that_changes_is_another_one(workspaces: Workspaces, remote: Remote) -> None:
    work = await opened(workspaces, remote)
    with (work.path / "large").open("wb") as file:
        file.truncate(17 << 20)
    for name in ("text", "a\nb"):
        (work.path / name).write_text("one")
    (work.path / "link").symlink_to("one")
    before = await marks_of(workspaces, work)
    assert differing(before, await marks_of(workspaces, work)) == ()

    (work.path / "large").write_bytes(b"x" * (17 << 20))
    for name in ("text", "a\nb", "a.py"):
        (work.path / name).write_text("two")
    (work.path / "link").unlink()
    (work.path / "link").symlink_to("two")
    (work.path / "junit.xml").write_text("one")

    assert differing(before, await marks_of(workspaces, work)) == ("a\nb", "a.py", "large", "link", "text")


async def test_what_the_work_puts_in_our_way_is_its_own_failure(workspaces: Workspaces, remote: Remote) -> None:
    work = await opened(workspaces, remote)
    (work.git_dir / "index.lock").mkdir()
    assert await workspaces.uncommitted(work) == ()
    remove_tree(work.git_dir)
    with pytest.raises(WorkUnreadable) as caught:
        await workspaces.uncommitted(work)

    assert failure_of(caught.value) is FailureClass.AGENT

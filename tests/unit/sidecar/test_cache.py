"""The promises of the repositories that workspaces are made from."""

import asyncio
import os
from pathlib import Path

import pytest

from protocol.model import AttemptId, Context, FailureClass, TaskSpec
from sidecar.cache import CONFIG, restore
from sidecar.environment import minimal_env
from sidecar.errors import BranchMissing, GitFailed, RepositoryMissing, failure_of
from sidecar.process import Processes
from sidecar.workspace import Workspace, Workspaces
from tests.support.repositories import Remote, git, make_remote

TASK = "01j0000000000000000000000a"
OTHER = "01j0000000000000000000000b"


def attempt(task: str = TASK, epoch: int = 1) -> AttemptId:
    return AttemptId("sidecar", 1, task, epoch)


def spec_of(remote: Remote | str, title: str = "Fix the thing", **context: object) -> TaskSpec:
    repo = remote if isinstance(remote, str) else str(remote.path)
    return TaskSpec(title=title, context=Context(repo=repo, **context))  # type: ignore[arg-type]  # any field


def cache_of(opened: Workspace) -> Path:
    assert opened.cache is not None
    return opened.cache


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return make_remote(tmp_path, {"a.txt": "one\n", "folder/b.txt": "two\n"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def workspaces(root: Path, tmp_path: Path) -> Workspaces:
    return another(root, tmp_path)


def another(root: Path, home: Path) -> Workspaces:
    return Workspaces(root, Processes(base_env=minimal_env(os.environ, home=home), grace_s=0.2))


async def test_a_rewritten_and_a_renamed_branch_do_not_stop_the_next_fetch(
    workspaces: Workspaces, remote: Remote
) -> None:
    remote.commit({"x": "1"}, branch="topic")
    await workspaces.open(attempt(), spec_of(remote, branch="topic"), "agent")
    git(remote.path, "branch", "--force", "topic", "main")
    git(remote.path, "branch", "--move", "topic", "topic/deeper")

    opened = await workspaces.open(attempt(epoch=2), spec_of(remote, branch="topic/deeper"), "agent")

    assert opened.base_commit == remote.tip("main")


async def test_a_lock_that_a_killed_fetch_left_is_removed(workspaces: Workspaces, remote: Remote, root: Path) -> None:
    first = await workspaces.open(attempt(), spec_of(remote), "agent")
    lock = cache_of(first) / "refs" / "remotes" / "origin" / "main.lock"
    lock.touch()
    os.utime(lock, (0, 0))
    pushed = remote.commit({"a.txt": "newer\n"})

    assert (await workspaces.open(attempt(epoch=2), spec_of(remote), "agent")).base_commit == pushed
    assert not lock.exists()


async def test_a_lock_of_a_git_at_work_stays_and_the_attempt_may_be_retried(
    workspaces: Workspaces, remote: Remote
) -> None:
    first = await workspaces.open(attempt(), spec_of(remote), "agent")
    lock = cache_of(first) / "refs" / "remotes" / "origin" / "main.lock"
    lock.touch()
    remote.commit({"a.txt": "newer\n"})

    with pytest.raises(GitFailed, match="git fetch: exit code 1") as caught:
        await workspaces.open(attempt(epoch=2), spec_of(remote), "agent")
    assert caught.value.retryable
    assert failure_of(caught.value) is FailureClass.INFRA
    assert lock.exists()


async def test_attempts_at_the_same_time_do_not_meet(root: Path, tmp_path: Path, remote: Remote) -> None:
    # Two Workspaces on one root stand for two sidecars of a machine.
    one, two = another(root, tmp_path), another(root, tmp_path)
    opened = await asyncio.gather(
        *(w.open(attempt(task), spec_of(remote), "agent") for w, task in ((one, TASK), (two, OTHER)))
    )
    for workspace, owner in zip(opened, (one, two), strict=True):
        (workspace.path / "mine.txt").write_text(workspace.branch)
        await owner.commit(workspace, "Mine", "agent")
        assert await owner.push(workspace)

    for workspace in opened:
        assert remote.show(workspace.branch, "mine.txt") == workspace.branch


async def test_a_directory_that_is_no_repository_is_missing_too(workspaces: Workspaces, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()

    with pytest.raises(RepositoryMissing, match="does not appear to be a git repository"):
        await workspaces.open(attempt(), spec_of(str(tmp_path / "plain")), "agent")


async def test_a_missing_branch_is_named_with_those_that_exist(workspaces: Workspaces, remote: Remote) -> None:
    remote.commit({"x": "1"}, branch="develop")

    with pytest.raises(BranchMissing) as caught:
        await workspaces.open(attempt(), spec_of(remote, branch="nope"), "agent")

    assert str(caught.value).startswith(f"repository '{remote.path}' has no branch 'nope'; it has ")
    assert set(caught.value.known) == {"main", "develop"}
    assert failure_of(caught.value) is FailureClass.INPUT


async def test_a_repository_without_a_commit_says_so(workspaces: Workspaces, tmp_path: Path) -> None:
    empty = make_remote(tmp_path, {}, name="empty")

    with pytest.raises(BranchMissing, match="has no default branch; it has none: push a first commit"):
        await workspaces.open(attempt(), spec_of(empty), "agent")


# --- what work may leave ----------------------------------------------------------------------------------------------


def test_a_repository_is_ours_again_whatever_was_written_into_it(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("stays\n")
    home = tmp_path / "home"
    (home / "info").mkdir(parents=True)
    (home / "info" / "exclude").write_text("*\n")
    (home / "hooks").symlink_to(victim)
    (home / "config").symlink_to(victim / "file")
    (home / "config.worktree").write_text("[core]\n\tworktree = /\n")

    restore(home, CONFIG)

    assert sorted(str(path.relative_to(home)) for path in home.rglob("*")) == [
        "config",
        "config.worktree",
        "hooks",
        "info",
    ]
    assert not (home / "hooks").is_symlink()
    assert ((home / "config").read_text(), (home / "config.worktree").read_text()) == (CONFIG, "")
    assert (victim / "file").read_text() == "stays\n"

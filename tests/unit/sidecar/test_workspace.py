import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.errors import WorkspaceFailed
from protocol.messages import Carry
from protocol.model import AttemptId, Context, FailureClass, TaskSpec
from sidecar.delivery import Delivery
from sidecar.environment import minimal_env
from sidecar.errors import BranchMissing, PushRefused, RepositoryInvalid, RepositoryMissing, failure_of
from sidecar.leaving import KEPT_S
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


# --- opening ----------------------------------------------------------------------------------------------------------


async def test_a_workspace_holds_the_newest_commit_of_the_default_branch(
    workspaces: Workspaces, remote: Remote
) -> None:
    opened = await workspaces.open(attempt(), spec_of(remote), "Of Course I Still Love You")

    assert opened.has_repo
    assert opened.base_commit == remote.tip("main")
    assert (opened.path / "folder" / "b.txt").read_text() == "two\n"
    assert opened.branch == f"agentcom/of-course-i-still-love-you/fix-the-thing-{TASK}-e1"
    assert git(opened.path, "branch", "--show-current") == opened.branch


async def test_a_second_attempt_sees_what_was_pushed_meanwhile(workspaces: Workspaces, remote: Remote) -> None:
    first = await workspaces.open(attempt(), spec_of(remote), "agent")
    pushed = remote.commit({"a.txt": "newer\n"})
    second = await workspaces.open(attempt(epoch=2), spec_of(remote), "agent")

    assert second.base_commit == pushed
    assert (second.path / "a.txt").read_text() == "newer\n"
    assert (first.path / "a.txt").read_text() == "one\n"
    assert second.branch.endswith(f"{TASK}-e2")


async def test_the_named_branch_is_the_base(workspaces: Workspaces, remote: Remote) -> None:
    tip = remote.commit({"c.txt": "three\n"}, branch="feature/x")

    opened = await workspaces.open(attempt(), spec_of(remote, branch="feature/x"), "agent")

    assert opened.base_commit == tip


async def test_a_file_url_and_a_path_name_the_same_repository(workspaces: Workspaces, remote: Remote) -> None:
    opened = await workspaces.open(attempt(), spec_of(f"file://{remote.path}"), "agent")

    assert opened.base_commit == remote.tip("main")
    assert opened.address == str(remote.path)


async def test_a_clone_with_a_work_tree_is_a_repository_too(workspaces: Workspaces, remote: Remote) -> None:
    opened = await workspaces.open(attempt(), spec_of(str(remote.clone)), "agent")
    (opened.path / "a.txt").write_text("changed\n")
    await workspaces.commit(opened, "Change a", "agent")

    assert await workspaces.push(opened)
    assert git(remote.clone, "show", f"{opened.branch}:a.txt") == "changed"


async def test_files_of_the_context_need_not_exist(workspaces: Workspaces, remote: Remote) -> None:
    opened = await workspaces.open(attempt(), spec_of(remote, files=("not/there.py",)), "agent")

    assert not (opened.path / "not").exists()


@pytest.mark.parametrize(
    "spec, about",
    [
        (TaskSpec(title="Ä title: with /../ signs", prompt="p", command="c"), "title-with-signs"),
        (TaskSpec(prompt="Say hello", command="c"), "say-hello"),
        (TaskSpec(command="make all"), "make-all"),
        (TaskSpec(title="???"), "task"),
    ],
)
async def test_the_branch_tells_agent_subject_task_and_epoch(
    workspaces: Workspaces, spec: TaskSpec, about: str
) -> None:
    opened = await workspaces.open(attempt(epoch=7), spec, "-- Agent/..//Name")

    assert opened.branch == f"agentcom/agent-name/{about}-{TASK}-e7"


async def test_an_attempt_is_opened_once(workspaces: Workspaces, root: Path, tmp_path: Path) -> None:
    await workspaces.open(attempt(), TaskSpec(title="x"), "agent")

    with pytest.raises(WorkspaceFailed, match="at work here already"):
        await another(root, tmp_path).open(attempt(), TaskSpec(title="x"), "agent")


# --- bad input --------------------------------------------------------------------------------------------------------


async def test_a_repository_that_does_not_exist_is_named_and_never_retried(workspaces: Workspaces, root: Path) -> None:
    with pytest.raises(RepositoryMissing) as caught:
        await workspaces.open(attempt(), spec_of("/nowhere/project"), "agent")

    assert str(caught.value) == (
        "repository '/nowhere/project' does not exist: there is no such directory on this host; "
        "check the address and submit again"
    )
    assert failure_of(caught.value) is FailureClass.INPUT
    assert list((root / "work").iterdir()) == []


@pytest.mark.parametrize(
    "branch", ["-x", "--upload-pack=x", "a..b", "a b", "x.lock", "@{u}", "a//b", "a\nb", "HEAD", "/a"]
)
async def test_a_text_that_is_no_branch_name_is_refused(workspaces: Workspaces, remote: Remote, branch: str) -> None:
    with pytest.raises(RepositoryInvalid, match="is no branch name") as caught:
        await workspaces.open(attempt(), spec_of(remote, branch=branch), "agent")

    assert failure_of(caught.value) is FailureClass.INPUT


async def test_after_a_failure_the_same_attempt_can_be_opened(workspaces: Workspaces, remote: Remote) -> None:
    with pytest.raises(BranchMissing):
        await workspaces.open(attempt(), spec_of(remote, branch="nope"), "agent")

    assert (await workspaces.open(attempt(), spec_of(remote), "agent")).path.is_dir()


# --- bringing work back -----------------------------------------------------------------------------------------------


async def test_changes_are_what_differs_from_the_base_committed_or_not(workspaces: Workspaces, remote: Remote) -> None:
    opened = await workspaces.open(attempt(), spec_of(remote), "agent")
    assert await workspaces.changes(opened) == ()

    (opened.path / "own commit.txt").write_text("1")
    git(opened.path, "add", ".")
    git(opened.path, "commit", "--quiet", "-m", "Mine")
    (opened.path / "a.txt").unlink()
    (opened.path / "new").mkdir()
    (opened.path / "new" / "ü.txt").write_text("1")

    assert await workspaces.changes(opened) == ("a.txt", "new/ü.txt", "own commit.txt")


async def test_the_work_is_committed_and_pushed_where_it_came_from(workspaces: Workspaces, remote: Remote) -> None:
    opened = await workspaces.open(attempt(), spec_of(remote), "agent")
    (opened.path / "a.txt").write_text("done\n")
    (opened.path / "new.txt").write_text("new\n")
    message = "Fix the thing\n\n# kept\n\nAgentcom-Task: 1\n"

    commit = await workspaces.commit(opened, message, "Very Little Gravitas <agent@example.org>")

    told = await workspaces.diff(opened, commit)
    assert "+++ b/a.txt\n" in told
    assert "+done\n" in told
    assert "--- /dev/null\n+++ b/new.txt\n@@ -0,0 +1 @@\n+new\n" in told
    assert await workspaces.push(opened)
    assert remote.tip(opened.branch) == commit
    assert remote.show(opened.branch, "new.txt") == "new"
    assert git(remote.path, "log", "-1", "--format=%an <%ae>%n%B", commit) == (
        f"Very Little Gravitas <agent@example.org>\n{message}".strip()
    )
    assert git(remote.path, "rev-parse", f"{commit}^") == opened.base_commit
    assert remote.tip("main") == opened.base_commit


async def test_nothing_to_commit_is_no_commit_and_no_push(workspaces: Workspaces, remote: Remote) -> None:
    opened = await workspaces.open(attempt(), spec_of(remote), "agent")

    assert await workspaces.commit(opened, "Nothing", "agent") == ""
    assert not await workspaces.push(opened)
    assert remote.branches() == ["main"]


async def test_work_that_committed_itself_elsewhere_is_delivered_on_the_branch(
    workspaces: Workspaces, remote: Remote
) -> None:
    opened = await workspaces.open(attempt(), spec_of(remote), "agent")
    git(opened.path, "checkout", "--quiet", "-b", "my-own-idea")
    (opened.path / "a.txt").write_text("mine\n")
    git(opened.path, "commit", "--quiet", "--all", "-m", "Mine")

    commit = await workspaces.commit(opened, "unused", "agent")

    assert commit == git(opened.path, "rev-parse", "HEAD")
    assert await workspaces.push(opened)
    assert remote.branches() == [opened.branch, "main"]


async def test_a_lock_of_a_killed_git_does_not_stop_the_commit(workspaces: Workspaces, remote: Remote) -> None:
    opened = await workspaces.open(attempt(), spec_of(remote), "agent")
    (opened.path / "a.txt").write_text("done\n")
    (opened.git_dir / "index.lock").touch()

    assert await workspaces.commit(opened, "Done", "agent")


async def test_other_commits_on_the_remote_branch_are_never_overwritten(workspaces: Workspaces, remote: Remote) -> None:
    opened = await workspaces.open(attempt(), spec_of(remote), "agent")
    theirs = remote.commit({"theirs": "1"}, branch=opened.branch)
    (opened.path / "a.txt").write_text("ours\n")
    await workspaces.commit(opened, "Ours", "agent")

    with pytest.raises(PushRefused, match="rejected"):
        await workspaces.push(opened)

    assert remote.tip(opened.branch) == theirs


async def test_a_remote_that_is_gone_at_the_push_is_named(workspaces: Workspaces, remote: Remote) -> None:
    opened = await workspaces.open(attempt(), spec_of(remote), "agent")
    (opened.path / "a.txt").write_text("ours\n")
    await workspaces.commit(opened, "Ours", "agent")
    remote.path.rename(remote.path.with_suffix(".gone"))

    with pytest.raises(RepositoryMissing, match=str(remote.path)):
        await workspaces.push(opened)


async def test_without_a_repository_there_is_an_empty_one(workspaces: Workspaces) -> None:
    opened = await workspaces.open(attempt(), TaskSpec(command="x"), "agent")

    assert (opened.has_repo, opened.base_commit) == (False, "")
    assert git(opened.path, "status", "--porcelain") == ""
    (opened.path / "made.txt").write_text("1")
    assert await workspaces.changes(opened) == ("made.txt",)
    commit = await workspaces.commit(opened, "Made", "agent")
    assert git(opened.path, "rev-parse", opened.branch) == commit
    assert not await workspaces.push(opened)


# --- hostile work -----------------------------------------------------------------------------------------------------


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Path]:
    """A command that leaves a trace if the host ever runs it."""
    trace = tmp_path / "trace"
    script = tmp_path / "trap.sh"
    script.write_text(f"#!/bin/sh\ntouch {trace}\ncat\n")
    script.chmod(0o755)
    yield script
    assert not trace.exists(), "the host ran something that the work left for it"


@pytest.mark.parametrize("has_repo", [True, False])
async def test_nothing_that_the_work_configures_runs_on_the_host(
    workspaces: Workspaces, remote: Remote, trap: Path, has_repo: bool
) -> None:
    opened = await workspaces.open(attempt(), spec_of(remote) if has_repo else TaskSpec(title="x"), "agent")
    for key in ("filter.trap.clean", "filter.trap.smudge", "core.fsmonitor", "diff.trap.textconv", "diff.external"):
        git(opened.path, "config", key, str(trap))
    git(opened.path, "config", "core.hooksPath", str(trap.parent))
    for hook in ("pre-commit", "post-commit", "pre-push", "reference-transaction", "post-checkout"):
        (trap.parent / hook).symlink_to(trap)
    (opened.path / ".gitattributes").write_text("* filter=trap diff=trap\n")
    (opened.path / "a.txt").write_text("changed\n")

    assert "a.txt" in await workspaces.changes(opened)
    assert await workspaces.commit(opened, "Changed", "agent")
    assert await workspaces.push(opened) is has_repo
    await workspaces.close(opened, keep=False)


async def test_a_repository_of_its_own_in_the_workspace_is_not_trusted(
    workspaces: Workspaces, remote: Remote, trap: Path
) -> None:
    opened = await workspaces.open(attempt(), spec_of(remote), "agent")
    (opened.path / ".git").unlink()
    git(opened.path, "init", "--quiet")
    git(opened.path, "config", "filter.trap.clean", str(trap))
    (opened.git_dir / "commondir").write_text(str(opened.path / ".git"))
    (opened.path / ".gitattributes").write_text("* filter=trap\n")
    (opened.path / "a.txt").write_text("changed\n")

    assert await workspaces.commit(opened, "Changed", "agent")
    assert await workspaces.push(opened)
    assert remote.show(opened.branch, "a.txt") == "changed"
    await workspaces.close(opened, keep=False)


# --- closing ----------------------------------------------------------------------------------------------------------


async def test_closing_removes_the_directory_and_a_branch_that_was_pushed(
    workspaces: Workspaces, remote: Remote, root: Path
) -> None:
    opened = await workspaces.open(attempt(), spec_of(remote), "agent")
    (opened.path / "a.txt").write_text("done\n")
    locked = opened.path / "locked"
    locked.mkdir()
    (locked / "file").touch()
    locked.chmod(0o500)
    await workspaces.commit(opened, "Done", "agent")
    await workspaces.push(opened)

    await workspaces.close(opened, keep=False)

    assert list((root / "work").iterdir()) == []
    assert git(cache_of(opened), "for-each-ref", "refs/heads/") == ""


async def test_a_branch_with_commits_that_were_not_pushed_stays(workspaces: Workspaces, remote: Remote) -> None:
    opened = await workspaces.open(attempt(), spec_of(remote), "agent")
    (opened.path / "a.txt").write_text("done\n")
    commit = await workspaces.commit(opened, "Done", "agent")

    await workspaces.close(opened, keep=False)
    await workspaces.open(attempt(epoch=2), spec_of(remote), "agent")

    assert git(cache_of(opened), "rev-parse", opened.branch) == commit


async def test_a_kept_directory_stays_until_it_is_old(workspaces: Workspaces, root: Path) -> None:
    opened = await workspaces.open(attempt(), TaskSpec(title="x"), "agent")
    (opened.path / "made.txt").write_text("1")
    await workspaces.close(opened, keep=True)

    assert await workspaces.sweep([]) == 0
    assert (opened.path / "made.txt").read_text() == "1"
    kept = root / "work" / f"{opened.path.name}.kept"
    os.utime(kept, (kept.stat().st_mtime - KEPT_S - 1,) * 2)
    assert await workspaces.sweep([]) == 1
    assert list((root / "work").iterdir()) + list((root / "alone").iterdir()) == []


async def test_a_sweep_removes_what_nobody_holds_and_nothing_else(
    workspaces: Workspaces, root: Path, tmp_path: Path, remote: Remote
) -> None:
    held, dropped, foreign = attempt(epoch=1), attempt(epoch=2), attempt(epoch=3)
    before = another(root, tmp_path)
    opened = [await before.open(one, spec_of(remote), "agent") for one in (held, dropped)]
    for workspace in opened:
        os.close(workspace.claim)  # the sidecar that held them died
    theirs = await workspaces.open(foreign, spec_of(remote), "agent")
    (root / "work" / "notes").mkdir()

    assert await workspaces.sweep([held]) == 1
    left = {path.name for path in (root / "work").iterdir() if path.is_dir()}
    assert left == {opened[0].path.name, theirs.path.name, "notes"}


async def test_a_cancelled_opening_leaves_nothing(workspaces: Workspaces, remote: Remote, root: Path) -> None:
    opening = asyncio.create_task(workspaces.open(attempt(), spec_of(remote), "agent"))
    while not list((root / "cache").glob("*.git")):  # noqa: ASYNC110 - a fact on the disk cannot be awaited
        await asyncio.sleep(0)
    opening.cancel()

    with pytest.raises(asyncio.CancelledError):
        await opening
    assert list((root / "work").iterdir()) == []
    assert (await workspaces.open(attempt(), spec_of(remote), "agent")).path.is_dir()


async def test_a_cancelled_opening_of_work_that_goes_on_leaves_nothing(workspaces: Workspaces, root: Path) -> None:
    first = await workspaces.open(attempt(), TaskSpec(command="true"), "agent")
    (first.path / "made").touch()
    commit = await workspaces.commit(first, "Made", "agent")
    await workspaces.close(first, keep=True)
    carry = Carry(attempt=attempt(), model="", iterations=1, execution_ok=True, branch=first.branch, commit=commit)
    opening = asyncio.create_task(workspaces.open(attempt(epoch=2), TaskSpec(command="true"), "agent", carry))
    while not (root / "alone" / f"{TASK}-e2.git").exists():  # noqa: ASYNC110 - a fact on the disk cannot be awaited
        await asyncio.sleep(0)
    opening.cancel()

    with pytest.raises(asyncio.CancelledError):
        await opening
    assert list((root / "work").iterdir()) == list((root / "alone").iterdir()) == []


# --- what is nowhere else ---------------------------------------------------------------------------------------------


async def test_commits_of_an_attempt_whose_sidecar_died_are_in_the_cache_after_the_sweep(
    workspaces: Workspaces, remote: Remote, root: Path, tmp_path: Path
) -> None:
    opened = await workspaces.open(attempt(), spec_of(remote), "agent")
    (opened.path / "a.txt").write_text("changed\n")
    commit = await workspaces.commit(opened, "Changed", "agent")
    os.close(opened.claim)  # as when the process is gone

    assert await another(root, tmp_path).sweep([]) == 1
    assert git(cache_of(opened), "rev-parse", opened.branch) == commit
    assert list((root / "work").iterdir()) == list((root / "alone").iterdir()) == []


async def test_a_dead_sidecar_leaves_no_branch_in_the_cache_that_the_remote_has(
    workspaces: Workspaces, remote: Remote, root: Path, tmp_path: Path
) -> None:
    idle = await workspaces.open(attempt(), spec_of(remote), "agent")
    told = await workspaces.open(attempt(OTHER), spec_of(remote), "agent")
    own = await workspaces.open(attempt(OTHER, epoch=2), spec_of(remote), "agent")
    for opened in (told, own):
        (opened.path / "a.txt").write_text(f"{opened.branch}\n")
        await workspaces.commit(opened, "Changed", "agent")
    pushed: list[list[str]] = []
    delivery = Delivery(workspaces, None, told.attempt, spec_of(remote))
    delivery.on_push = lambda: pushed.append(remote.branches())
    await delivery.work(told, "model")
    for opened in (idle, told, own):
        os.close(opened.claim)
    again = another(root, tmp_path)
    await again.sweep([])

    assert (pushed, delivery.done["branch"]) == ([["main"]], told.branch), "it is named before it is pushed"
    kept = git(cache_of(own), "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads/").split()
    assert kept == sorted([told.branch, own.branch]), "nothing is in the first, and nobody has looked at the remote yet"
    await again.close(await again.open(attempt(epoch=3), spec_of(remote), "agent"), keep=False)
    assert git(cache_of(own), "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads/").split() == [own.branch]


async def test_where_the_work_stood_instead_of_its_branch_is_salvaged(workspaces: Workspaces, remote: Remote) -> None:
    opened = await workspaces.open(attempt(), spec_of(remote), "agent")
    git(opened.path, "checkout", "--quiet", "--detach")
    git(opened.path, "commit", "--quiet", "--allow-empty", "--message", "Elsewhere")
    stood = git(opened.path, "rev-parse", "HEAD")
    await workspaces.close(opened, keep=False)

    assert git(cache_of(opened), "rev-parse", f"salvage/{TASK}-e1") == stood


async def test_the_work_cannot_reach_the_cache_and_not_what_its_repository_is_pointed_to(
    workspaces: Workspaces, remote: Remote, tmp_path: Path
) -> None:
    other = make_remote(tmp_path, {"secret": "not yours"}, name="other")
    opened = await workspaces.open(attempt(), spec_of(remote), "agent")
    stolen = other.tip("main")
    (opened.git_dir / "objects" / "info" / "alternates").write_text(f"{other.path}/objects\n")
    (opened.git_dir / "refs" / "heads" / opened.branch).write_text(f"{stolen}\n")

    assert not await workspaces.push(opened)
    assert remote.branches() == ["main"]
    place = opened.place(tmp_path / "scratch")
    assert not [path for path in place.write if cache_of(opened) in (path, *path.parents)]


async def test_many_attempts_leave_nothing_behind(workspaces: Workspaces, remote: Remote, root: Path) -> None:
    fds = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0
    for epoch in range(1, 13):
        opened = await workspaces.open(attempt(epoch=epoch), spec_of(remote), "agent")
        (opened.path / "a.txt").write_text(f"{epoch}\n")
        if epoch % 3:
            await workspaces.commit(opened, "Changed", "agent")
            assert await workspaces.push(opened)
        await workspaces.close(opened, keep=False)

    assert list((root / "work").iterdir()) == list((root / "alone").iterdir()) == []
    assert git(cache_of(opened), "for-each-ref", "refs/heads/") == ""
    assert not fds or len(list(Path("/proc/self/fd").iterdir())) == fds

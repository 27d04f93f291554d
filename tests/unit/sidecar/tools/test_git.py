import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from protocol.model import AttemptId, Context, TaskSpec
from sidecar.environment import minimal_env
from sidecar.errors import PushRefused
from sidecar.process import Processes
from sidecar.repository import GitWorkspaces, Repository
from sidecar.tools.base import Tool
from sidecar.tools.git import git_tools
from sidecar.workplace import Workspace
from tests.support.repositories import Remote, git, make_remote

ATTEMPT = AttemptId("One", 1, "01j0000000000000000000000a", 1)


@dataclass
class Desk:
    """A workspace with a repository, and the tools for it."""

    workspaces: GitWorkspaces
    workspace: Workspace
    remote: Remote

    def tools(self, *, may_push: bool = False) -> dict[str, Tool[Any]]:
        repository = Repository(self.workspaces, self.workspace, may_push=may_push)
        return {tool.name: tool for tool in git_tools(repository, author="One", model="qwen3:8b")}

    async def say(self, tool: str, **arguments: object) -> str:
        return await self.tools(may_push=True)[tool].call(arguments)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    remote = make_remote(tmp_path, {"a.txt": "one\n", "folder/b.txt": "two\n"})
    remote.commit({"a.txt": "three\n"}, "Theirs", branch="theirs")
    workspaces = GitWorkspaces(tmp_path / "state", Processes(base_env=minimal_env(os.environ, home=tmp_path / "home")))
    spec = TaskSpec(title="x", context=Context(repo=str(remote.path), branch="main"))
    workspace = await workspaces.open(ATTEMPT, spec, "One")
    yield Desk(workspaces, workspace, remote)
    await workspaces.close(workspace, keep=False)


async def test_a_model_commits_on_a_branch_of_its_own_and_that_is_what_is_delivered(desk: Desk) -> None:
    (desk.workspace.path / "a.txt").write_text("changed\n")
    (desk.workspace.path / "new.txt").write_text("new\n")
    branched = await desk.say("git_branch", name="fix/a")
    added = await desk.say("git_add", paths=["a.txt"])
    committed = await desk.say("git_commit", message="Change a\n\nBecause.")
    status = await desk.say("git_status")
    pushed = await desk.say("git_push")
    delivered = await desk.workspaces.commit(desk.workspace, "The rest", "One")

    assert branched == "fix/a is made and checked out"
    assert added == "  M\ta.txt\n"
    assert committed.endswith(":\n  M\ta.txt\n")
    assert "branch: fix/a" in status
    assert "not committed: 1 files\n  new.txt\n" in status
    tip = desk.remote.tip(desk.workspace.branch)
    assert pushed == f"{desk.workspace.branch} is at {tip[:12]}"
    assert desk.remote.branches() == [desk.workspace.branch, "main", "theirs"]
    message = git(desk.remote.path, "log", "-1", "--format=%B", tip)
    assert message.split("\n\n")[:2] == ["Change a", "Because."]
    trailers = git(desk.remote.path, "log", "-1", "--format=%(trailers:key=Task,valueonly)", tip)
    assert trailers == ATTEMPT.task
    assert git(desk.workspace.path, "rev-parse", "HEAD^") == tip
    assert delivered == git(desk.workspace.path, "rev-parse", "HEAD")


async def test_branches_of_the_remote_can_be_checked_out_and_begun_from(desk: Desk) -> None:
    assert await desk.say("git_checkout", name="theirs") == "theirs is checked out"
    assert (desk.workspace.path / "a.txt").read_text() == "three\n"
    await desk.say("git_branch", name="on/main", start="main")
    assert (desk.workspace.path / "a.txt").read_text() == "one\n"
    await desk.say("git_checkout", name="theirs")
    (desk.workspace.path / "a.txt").write_text("not committed\n")

    refused = await desk.say("git_checkout", name="on/main")
    assert refused.startswith("error: git checkout: exit code 1")
    assert (desk.workspace.path / "a.txt").read_text() == "not committed\n"


@pytest.mark.parametrize(
    "tool, arguments, said",
    [
        ("git_branch", {"name": "-d"}, "no branch name"),
        ("git_branch", {"name": "a..b"}, "no branch name"),
        ("git_branch", {"name": "x", "start": "--output=/tmp/x"}, "no branch name"),
        ("git_branch", {"name": "x", "start": "nowhere"}, "no branch 'nowhere'"),
        ("git_checkout", {"name": "--orphan"}, "no branch name"),
        ("git_checkout", {"name": "HEAD~1"}, "no branch name"),
        ("git_add", {"paths": ["../x"]}, "leaves the workspace"),
        ("git_add", {"paths": [".git/config"]}, "belongs to git"),
        ("git_add", {"paths": ["nowhere"]}, "did not match any files"),
        ("git_add", {"paths": [":(top)"]}, "did not match any files"),
        ("git_add", {"paths": ["-A"]}, "did not match any files"),
        ("git_commit", {"message": " "}, "1 to 16384 characters"),
        ("git_commit", {"message": "x"}, "nothing was added"),
        ("git_push", {"remote": "https://example.org/x"}, "unknown field"),
        ("git_push", {}, "there is nothing to push"),
    ],
)
async def test_what_cannot_be_done_is_told_to_the_model(
    desk: Desk, tool: str, arguments: dict[str, Any], said: str
) -> None:
    assert said in await desk.say(tool, **arguments)


async def test_a_task_that_does_not_allow_it_has_no_tool_to_push(desk: Desk) -> None:
    assert "git_push" not in desk.tools(may_push=False)
    assert "git_push" in desk.tools(may_push=True)


async def test_what_the_work_told_git_to_run_is_not_run(desk: Desk, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    trap.chmod(0o755)
    for setting in ("core.fsmonitor", "filter.t.clean", "filter.t.smudge", "core.editor", "diff.external"):
        git(desk.workspace.path, "config", setting, str(trap))
    (desk.workspace.git_dir / "hooks").mkdir(exist_ok=True)
    for hook in ("pre-commit", "post-checkout", "reference-transaction", "pre-push"):
        (desk.workspace.git_dir / "hooks" / hook).symlink_to(trap)
    (desk.workspace.path / ".gitattributes").write_text("* filter=t diff=t\n")
    (desk.workspace.path / "a.txt").write_text("changed\n")
    for tool, arguments in (
        ("git_status", {}),
        ("git_branch", {"name": "b"}),
        ("git_add", {}),
        ("git_commit", {"message": "x"}),
        ("git_checkout", {"name": "theirs"}),
        ("git_push", {}),
    ):
        said = await desk.say(tool, **arguments)
        assert not said.startswith("error"), said

    assert not (tmp_path / "sprung").exists()


async def _commit(desk: Desk, text: str) -> str:
    (desk.workspace.path / "a.txt").write_text(text)
    await desk.say("git_add")
    return await desk.say("git_commit", message=f"Say {text.strip()}")


async def test_work_that_begins_anew_from_another_base_after_a_push_is_delivered(desk: Desk) -> None:
    await _commit(desk, "first\n")
    await desk.say("git_push")
    first = desk.remote.tip(desk.workspace.branch)
    await desk.say("git_branch", name="anew", start="theirs")
    await _commit(desk, "anew\n")
    delivered = await desk.workspaces.commit(desk.workspace, "The rest", "One")

    assert await desk.workspaces.push(desk.workspace)
    assert desk.remote.tip(desk.workspace.branch) == delivered != first


async def test_what_others_have_put_on_a_pushed_branch_is_never_replaced(desk: Desk) -> None:
    await _commit(desk, "first\n")
    await desk.say("git_push")
    git(desk.remote.clone, "fetch", "--quiet", "origin", f"{desk.workspace.branch}:{desk.workspace.branch}")
    theirs = desk.remote.commit({"theirs.txt": "1"}, branch=desk.workspace.branch)
    await desk.say("git_branch", name="anew", start="main")
    await _commit(desk, "anew\n")
    await desk.workspaces.commit(desk.workspace, "The rest", "One")

    with pytest.raises(PushRefused, match="stale info"):
        await desk.workspaces.push(desk.workspace)
    assert desk.remote.tip(desk.workspace.branch) == theirs

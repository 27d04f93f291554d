"""The promises of work in progress in git: nothing is lost between two machines, and the work notices nothing."""

import os
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace

from protocol.messages import Carry
from protocol.model import AttemptId, Context, TaskSpec
from sidecar.environment import minimal_env
from sidecar.process import Processes
from sidecar.wip import WipWorkspaces
from tests.support.repositories import Remote, git, make_remote

TASK: Final = "0123456789abcdefghjkmnpqrs"
DRAFT: Final = "Draft: work\n\nDraft: uncommitted\n"


def _machine(folder: Path) -> WipWorkspaces:
    home = folder / "home"
    home.mkdir(parents=True)
    return WipWorkspaces(folder, Processes(base_env=minimal_env(os.environ, home=home), grace_s=0.2))


def _attempt(epoch: int) -> AttemptId:
    return AttemptId("Arbitrary", 5, TASK, epoch)


def _carry(place: str, commit: str) -> Carry:
    return Carry(attempt=_attempt(1), model="m", iterations=0, execution_ok=False, branch=place, commit=commit)


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return make_remote(tmp_path, {"kept.txt": "kept\n", "changed.txt": "before\n", "gone.txt": "gone\n"})


async def test_another_machine_finds_the_files_as_they_were_committed_or_not(tmp_path: Path, remote: Remote) -> None:
    one, two = _machine(tmp_path / "one"), _machine(tmp_path / "two")
    spec = TaskSpec(title="Work", context=Context(repo=str(remote.path)))
    first = await one.open(_attempt(1), spec, "Arbitrary")
    (first.path / "mine.txt").write_text("committed\n")
    git(first.path, "add", "mine.txt")
    git(first.path, "commit", "--quiet", "-m", "mine")
    (first.path / "changed.txt").write_text("after\n")
    (first.path / "gone.txt").unlink()
    (first.path / "new.txt").write_text("new\n")
    status = git(first.path, "status", "--porcelain")
    snapshot = await one.snapshot(first, DRAFT)
    (first.path / "later.txt").write_text("later\n")
    later = await one.snapshot(first, DRAFT, snapshot)
    ref = await one.push_wip(first, later)

    second = await two.open(_attempt(2), spec, "Arbitrary", _carry(ref, snapshot.commit))

    assert second.is_continued
    assert git(second.path, "log", "-1", "--format=%s") == "mine"
    assert sorted(git(second.path, "status", "--porcelain").split("\n")) == sorted(
        [*status.split("\n"), "?? later.txt"]
    )
    assert second.base_commit == first.base_commit
    await two.forget_wip(second, ref)
    assert git(remote.path, "for-each-ref", "refs/agentcom") == ""
    for machine, workspace in ((one, first), (two, second)):
        cache = workspace.cache
        assert cache is not None
        await machine.close(workspace, keep=False)
        assert git(cache, "for-each-ref", "refs/agentcom/wip") == ""


async def test_the_work_finds_its_own_index_as_it_left_it(tmp_path: Path, remote: Remote) -> None:
    machine = _machine(tmp_path / "one")
    workspace = await machine.open(_attempt(1), TaskSpec(title="W", context=Context(repo=str(remote.path))), "A")
    (workspace.path / "staged.txt").write_text("staged\n")
    git(workspace.path, "add", "staged.txt")
    (workspace.path / "loose.txt").write_text("loose\n")
    before = git(workspace.path, "status", "--porcelain")
    snapshot = await machine.snapshot(workspace, DRAFT)

    assert git(workspace.path, "status", "--porcelain") == before
    assert await machine.snapshot(workspace, DRAFT, snapshot) is snapshot
    assert git(workspace.path, "log", "-1", "--format=%s") != "Draft: work"
    await machine.close(workspace, keep=False)


async def test_without_a_repository_a_bundle_brings_the_files(tmp_path: Path) -> None:
    one, two = _machine(tmp_path / "one"), _machine(tmp_path / "two")
    first = await one.open(_attempt(1), TaskSpec(title="W"), "A")
    (first.path / "made.txt").write_text("made\n")
    snapshot = await one.snapshot(first, DRAFT)
    bundle = tmp_path / "wip.bundle"
    await one.bundle(first, bundle)

    second = await two.open(_attempt(2), TaskSpec(title="W"), "A", _carry(str(bundle), snapshot.commit))

    assert second.is_continued
    assert (second.path / "made.txt").read_text() == "made\n"
    assert await two.uncommitted(second) == ("made.txt",)
    for machine, workspace in ((one, first), (two, second)):
        await machine.close(workspace, keep=False)


async def test_what_a_person_has_pushed_on_top_counts_as_well(tmp_path: Path, remote: Remote) -> None:
    one, two = _machine(tmp_path / "one"), _machine(tmp_path / "two")
    spec = TaskSpec(title="Work", context=Context(repo=str(remote.path)))
    first = await one.open(_attempt(1), spec, "Arbitrary")
    (first.path / "new.txt").write_text("half\n")
    snapshot = await one.snapshot(first, DRAFT)
    ref = await one.push_wip(first, snapshot)
    git(remote.clone, "fetch", "--quiet", "origin", ref)
    git(remote.clone, "checkout", "--quiet", "FETCH_HEAD")
    (remote.clone / "new.txt").write_text("whole\n")
    git(remote.clone, "commit", "--quiet", "-am", "Finish it")
    git(remote.clone, "push", "--quiet", "origin", f"HEAD:{ref}")

    second = await two.open(_attempt(2), spec, "Arbitrary", _carry(ref, snapshot.commit))

    assert (second.path / "new.txt").read_text() == "whole\n"
    assert await two.uncommitted(second) == ("new.txt",)


async def test_what_cannot_be_had_any_more_begins_anew(tmp_path: Path, remote: Remote) -> None:
    machine = _machine(tmp_path / "one")
    spec = TaskSpec(title="Work", context=Context(repo=str(remote.path)))
    carry = _carry(f"refs/agentcom/wip/{TASK}-e1", "0" * 40)
    workspace = await machine.open(_attempt(2), spec, "Arbitrary", carry)
    other = await machine.open(_attempt(3), spec, "Arbitrary", replace(carry, branch="", commit="no commit"))

    assert not workspace.is_continued
    assert not other.is_continued
    assert (workspace.path / "kept.txt").read_text() == "kept\n"


async def test_what_all_attempts_at_a_task_have_pushed_is_taken_away_and_nothing_else(
    tmp_path: Path, remote: Remote
) -> None:
    machine = _machine(tmp_path / "one")
    spec = TaskSpec(title="Work", context=Context(repo=str(remote.path)))
    assert await machine.forget_task(str(remote.path), TASK) == 0  # nothing of it was ever here
    workspace = await machine.open(_attempt(1), spec, "Arbitrary")
    await machine.push_wip(workspace, await machine.snapshot(workspace, DRAFT))
    tip = git(remote.path, "rev-parse", "main")
    others = [f"refs/agentcom/wip/{TASK[:-1]}z-e1", f"refs/agentcom/wip/{TASK}", f"refs/heads/{TASK}-e1"]
    for ref in (f"refs/agentcom/wip/{TASK}-e7", *others):
        git(remote.path, "update-ref", ref, tip)

    assert await machine.forget_task(f"file://{remote.path}", TASK) == 2
    left = set(git(remote.path, "for-each-ref", "--format=%(refname)").split())
    assert left == {"refs/heads/main", *others}
    assert await machine.forget_task(str(remote.path), TASK) == 0
    await machine.close(workspace, keep=False)

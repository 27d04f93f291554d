"""The promises of cleaning: nothing goes that is nowhere else, nothing that somebody uses."""

import os
import subprocess
from pathlib import Path

import pytest

from protocol.model import AttemptId, Context, TaskSpec
from sidecar.cleaning import MANY_PACKS, SEEN, Cleaner
from sidecar.environment import minimal_env
from sidecar.folders import claim
from sidecar.git import Git
from sidecar.process import Processes
from sidecar.workplace import Workspace
from sidecar.workspace import Workspaces
from tests.support.repositories import Remote, git, make_remote

TASK = "01j0000000000000000000000a"


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(base_env=minimal_env(os.environ, home=tmp_path), grace_s=0.2)


@pytest.fixture
def workspaces(tmp_path: Path, processes: Processes) -> Workspaces:
    return Workspaces(tmp_path / "state", processes)


def cleaner(tmp_path: Path, processes: Processes, most_bytes: int) -> Cleaner:
    return Cleaner(tmp_path / "state", Git(processes), most_bytes)


async def used(workspaces: Workspaces, remote: Remote, epoch: int = 1) -> Workspace:
    """A workspace of the repository, open."""
    attempt = AttemptId("One", 1, TASK, epoch)
    return await workspaces.open(attempt, TaskSpec(title="x", context=Context(repo=str(remote.path))), "One")


def cache_of(opened: Workspace) -> Path:
    assert opened.cache is not None
    return opened.cache


async def test_the_caches_that_were_not_used_for_longest_make_room(
    tmp_path: Path, workspaces: Workspaces, processes: Processes
) -> None:
    caches = []
    for number in range(3):
        opened = await used(workspaces, make_remote(tmp_path, {"f": os.urandom(50_000).hex()}, name=f"r{number}"))
        await workspaces.close(opened, keep=False)
        caches.append(cache_of(opened))
    for age, cache in zip((100, 300, 200), caches, strict=True):
        os.utime(cache, (1_000_000 - age, 1_000_000 - age))
    whole = await cleaner(tmp_path, processes, 0).clean()
    removed = await cleaner(tmp_path, processes, 160_000).clean()

    assert (whole, removed) == (0, 1)
    assert [cache.exists() for cache in caches] == [True, False, True]
    assert await cleaner(tmp_path, processes, 1).clean() == 2


async def test_what_an_attempt_reads_stays_however_little_room_there_is(
    tmp_path: Path, workspaces: Workspaces, processes: Processes
) -> None:
    remote = make_remote(tmp_path, {"a": "1"})
    opened = await used(workspaces, remote)
    assert await cleaner(tmp_path, processes, 1).clean() == 0
    assert git(opened.path, "status", "--porcelain") == ""
    await workspaces.close(opened, keep=True)  # kept for a person: it still reads its cache
    assert await cleaner(tmp_path, processes, 1).clean() == 0
    assert git(opened.path, "show", "HEAD:a") == "1"

    other = await used(workspaces, remote, epoch=2)
    await workspaces.close(other, keep=False)
    assert cache_of(other).exists()


async def test_a_cache_that_another_sidecar_works_on_is_left_alone(
    tmp_path: Path, workspaces: Workspaces, processes: Processes
) -> None:
    opened = await used(workspaces, make_remote(tmp_path))
    await workspaces.close(opened, keep=False)
    fd = claim(cache_of(opened).with_suffix(".lock"))
    assert fd is not None
    assert await cleaner(tmp_path, processes, 1).clean() == 0
    os.close(fd)

    assert await cleaner(tmp_path, processes, 1).clean() == 1


async def test_work_that_is_nowhere_else_is_never_removed_until_the_remote_has_it(
    tmp_path: Path, workspaces: Workspaces, processes: Processes
) -> None:
    remote = make_remote(tmp_path)
    opened = await used(workspaces, remote)
    (opened.path / "new").write_text("x")
    commit = await workspaces.commit(opened, "Work", "One")
    await workspaces.close(opened, keep=False)
    cache = cache_of(opened)
    assert await cleaner(tmp_path, processes, 1).clean() == 0
    assert git(cache, "rev-parse", opened.branch) == commit

    git(cache, "push", "--quiet", str(remote.path), f"{opened.branch}:refs/heads/taken")
    again = await used(workspaces, remote, epoch=2)
    await workspaces.close(again, keep=False)
    assert await cleaner(tmp_path, processes, 0).clean() == 0
    assert git(cache, "for-each-ref", "refs/heads/") == "", "the remote has it: our name for it goes"
    assert await cleaner(tmp_path, processes, 1).clean() == 1


@pytest.mark.parametrize("dies", [False, True])
async def test_every_branch_of_an_attempt_is_salvaged_before_its_repository_goes(
    tmp_path: Path, workspaces: Workspaces, processes: Processes, dies: bool
) -> None:
    opened = await used(workspaces, make_remote(tmp_path))
    git(opened.path, "checkout", "--quiet", "-b", "side/x")
    git(opened.path, "commit", "--quiet", "--allow-empty", "-m", "On a branch that was left")
    side = git(opened.path, "rev-parse", "HEAD")
    git(opened.path, "checkout", "--quiet", "--detach", opened.base_commit)
    git(opened.path, "commit", "--quiet", "--allow-empty", "-m", "On no branch")
    stood = git(opened.path, "rev-parse", "HEAD")
    git(opened.path, "branch", "same", opened.base_commit)
    if dies:
        os.close(opened.claim)
        await Workspaces(tmp_path / "state", processes).sweep(held=[])
    else:
        await workspaces.close(opened, keep=False)

    assert not opened.git_dir.exists()
    listed = git(cache_of(opened), "for-each-ref", "--format=%(objectname) %(refname:lstrip=2)", "refs/heads/salvage/")
    assert listed.splitlines() == [f"{stood} salvage/{TASK}-e1", f"{side} salvage/{TASK}-e1+side/x"]


async def test_many_packs_become_one_and_nothing_that_counts_is_lost(
    tmp_path: Path, workspaces: Workspaces, processes: Processes
) -> None:
    remote = make_remote(tmp_path)
    opened = await used(workspaces, remote)
    await workspaces.close(opened, keep=False)
    cache = cache_of(opened)
    for number in range(MANY_PACKS + 1):
        remote.commit({"f": str(number)})
        git(
            cache,
            "-c",
            "fetch.unpackLimit=1",
            "fetch",
            "--quiet",
            str(remote.path),
            "+refs/heads/*:refs/remotes/origin/*",
        )
    before = len(list((cache / "objects" / "pack").glob("*.pack")))
    await cleaner(tmp_path, processes, 0).clean()

    assert before > MANY_PACKS
    assert len(list((cache / "objects" / "pack").glob("*.pack"))) == 1
    assert git(cache, "fsck", "--connectivity-only") == ""
    again = await used(workspaces, remote, epoch=2)
    assert (again.path / "f").read_text() == str(MANY_PACKS)


async def test_commits_that_are_nowhere_else_are_forgotten_when_they_have_been_kept_for_long(
    tmp_path: Path, workspaces: Workspaces, processes: Processes
) -> None:
    remote, now, day = make_remote(tmp_path, {"a": "1"}), 1_000_000.0, 86_400.0
    first, second = await used(workspaces, remote), await used(workspaces, remote, epoch=2)
    cleaning = Cleaner(tmp_path / "state", Git(processes), 0, most_days=30.0, now=lambda: now)
    for opened in (first, second):
        (opened.path / "mine").write_text(os.urandom(9).hex())
        git(opened.path, "add", "mine")
        git(opened.path, "commit", "--quiet", "--date=2001-01-01T00:00:00", "--message=Mine")
    await workspaces.close(first, keep=False)
    cache, commit = cache_of(first), git(second.path, "rev-parse", "HEAD")
    old = git(cache, "rev-parse", f"refs/heads/{first.branch}")

    def own() -> int:
        return len(git(cache, "for-each-ref", "--format=%(refname)", "refs/heads/").split())

    await workspaces.close(second, keep=True)  # it is not cleaned while an attempt reads it
    await cleaning.clean()
    await workspaces.close(await used(workspaces, remote, epoch=3), keep=False)
    (tmp_path / "state" / "alone" / f"{TASK}-e2.cache").unlink()
    await cleaning.clean()
    assert own() == 1
    now += 29 * day
    git(cache, "fetch", "--quiet", str(second.git_dir), f"{commit}:refs/heads/salvage/later")
    await cleaning.clean()
    assert own() == 2
    now += 2 * day
    await cleaning.clean()
    assert git(cache, "for-each-ref", "--format=%(refname)", "refs/heads/") == "refs/heads/salvage/later"
    with pytest.raises(subprocess.CalledProcessError):
        git(cache, "cat-file", "-e", old)
    (cache / SEEN).write_text("[1")  # as if it were new
    now += 40 * day
    await cleaning.clean()
    assert own() == 1


async def test_an_attempt_that_leaves_very_much_keeps_it_for_itself_for_some_days(
    tmp_path: Path, workspaces: Workspaces
) -> None:
    remote = make_remote(tmp_path, {"a": "1"})
    opened, pushed = await used(workspaces, remote), await used(workspaces, remote, epoch=2)
    for each in (opened, pushed):
        (each.path / "large").write_bytes(os.urandom(1 << 20))
        await workspaces.commit(each, "Mine", "me")
    await workspaces.push(pushed)
    workspaces.most_bytes = 1 << 19
    for each in (opened, pushed):
        await workspaces.close(each, keep=False)

    assert not opened.path.exists()
    assert git(opened.git_dir, "rev-parse", f"refs/heads/{opened.branch}")
    assert git(cache_of(opened), "for-each-ref", "refs/heads/") == ""
    assert not pushed.git_dir.exists()
    assert await workspaces.sweep(()) == 0
    kept = tmp_path / "state" / "work" / f"{TASK}-e1.kept"
    os.utime(kept, (1, 1))
    await workspaces.sweep(())
    assert list((tmp_path / "state" / "alone").iterdir()) == []


async def test_a_sidecar_that_died_loses_none_of_what_it_would_have_kept(
    tmp_path: Path, workspaces: Workspaces, processes: Processes
) -> None:
    opened = await used(workspaces, make_remote(tmp_path, {"a": "1"}))
    (opened.path / "large").write_bytes(os.urandom(1 << 20))
    commit = await workspaces.commit(opened, "Mine", "me")
    os.close(opened.claim)  # as when the process is gone
    again = Workspaces(tmp_path / "state", processes)
    again.most_bytes = 1 << 19

    await again.sweep(())
    await again.sweep(())
    assert git(opened.git_dir, "rev-parse", f"refs/heads/{opened.branch}") == commit
    os.utime(tmp_path / "state" / "work" / f"{TASK}-e1.kept", (1, 1))
    await again.sweep(())
    await again.sweep(())
    assert [*(tmp_path / "state" / "alone").iterdir(), *(tmp_path / "state" / "work").iterdir()] == []

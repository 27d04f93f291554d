"""Repositories and trees that want git to run something, or to write elsewhere: the host does neither.

Each kind is left in a workspace as work could leave it; then the host does all that it does with a workspace. Here git
runs without the sandbox, so what is shown is that of git's own switches; ``tests/integration/test_sandbox.py`` and the
last test here show the walls.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.model import AttemptId, Context, TaskSpec
from protocol.removal import remove_tree
from sidecar.environment import minimal_env
from sidecar.process import Processes
from sidecar.sandbox.cell import Level, Sandbox
from sidecar.sandbox.policy import Rules
from sidecar.workspace import Workspace, Workspaces
from tests.support.levels import LEVELS, missing
from tests.support.repositories import Remote, arm, git, make_remote

ATTEMPT = AttemptId("sidecar", 1, "01j0000000000000000000000a", 1)
Trick = Callable[[Workspace, Path], None]


def config(*entries: str) -> Trick:
    """Write settings into the configuration that the work's own git sees."""

    def play(opened: Workspace, trap: Path) -> None:
        for entry in entries:
            key, _, value = entry.partition("=")
            git(opened.path, "config", key, value.replace("TRAP", str(trap)))

    return play


def fsmonitor(opened: Workspace, trap: Path) -> None:
    config("core.fsmonitor=TRAP", "core.fsmonitorHookVersion=2")(opened, trap)


def filters(opened: Workspace, trap: Path) -> None:
    config("filter.t.clean=TRAP", "filter.t.smudge=TRAP", "filter.t.required=true")(opened, trap)
    (opened.path / ".gitattributes").write_text("* filter=t\n")


def process_filter(opened: Workspace, trap: Path) -> None:
    config("filter.t.process=TRAP")(opened, trap)
    (opened.path / ".gitattributes").write_text("* filter=t\n")


def lfs(opened: Workspace, trap: Path) -> None:
    config("filter.lfs.clean=TRAP", "filter.lfs.process=TRAP", "lfs.customtransfer.x.path=TRAP")(opened, trap)
    (opened.path / ".gitattributes").write_text("* filter=lfs diff=lfs merge=lfs -text\n")
    (opened.path / ".lfsconfig").write_text(f"[lfs]\n\turl = ext::{trap}\n")


def textconv(opened: Workspace, trap: Path) -> None:
    config("diff.t.textconv=TRAP", "diff.t.command=TRAP", "diff.external=TRAP", "merge.t.driver=TRAP")(opened, trap)
    (opened.path / ".gitattributes").write_text("* diff=t merge=t\n")


def hooks(opened: Workspace, trap: Path) -> None:
    names = ("pre-commit", "commit-msg", "post-commit", "pre-push", "reference-transaction", "post-index-change")
    for folder in (opened.path / "hooks", opened.git_dir / "hooks"):
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).symlink_to(trap)
    git(opened.path, "config", "core.hooksPath", str(opened.path / "hooks"))


def worktree_config(opened: Workspace, trap: Path) -> None:
    text = f'[core]\n\tfsmonitor = {trap}\n[filter "t"]\n\tclean = {trap}\n'
    (opened.git_dir / "config.worktree").write_text(text)
    config("extensions.worktreeConfig=true")(opened, trap)
    (opened.path / ".gitattributes").write_text("* filter=t\n")


def own_repository(opened: Workspace) -> Path:
    """A repository that the work has made inside its workspace."""
    git(opened.path, "init", "--quiet", "own")
    git(opened.path / "own", "commit", "--quiet", "--allow-empty", "--message", "own")
    return opened.path / "own"


def gitdir_file(opened: Workspace, trap: Path) -> None:
    own = own_repository(opened)
    git(own, "config", "core.fsmonitor", str(trap))
    (opened.path / ".git").unlink()
    (opened.path / ".git").write_text(f"gitdir: {own / '.git'}\n")


def linked_git(opened: Workspace, trap: Path) -> None:
    own = own_repository(opened)
    git(own, "config", "filter.t.clean", str(trap))
    (opened.path / ".gitattributes").write_text("* filter=t\n")
    (opened.path / ".git").unlink()
    (opened.path / ".git").symlink_to("own/.git")


def nested_repository(opened: Workspace, trap: Path) -> None:
    sub = opened.path / "sub"
    git(opened.path, "init", "--quiet", "sub")
    (sub / ".gitattributes").write_text("* filter=t\n")
    (sub / "f").write_text("1\n")
    git(sub, "add", "--all")
    git(sub, "commit", "--quiet", "--message", "sub")
    git(opened.path, "add", "sub")
    (opened.path / ".gitmodules").write_text('[submodule "sub"]\n\tpath = sub\n\turl = ./x\n\tignore = none\n')
    for key in ("filter.t.clean", "core.fsmonitor"):
        git(sub, "config", key, str(trap))
    (sub / "f").write_text("2\n")


def bare_inside(opened: Workspace, trap: Path) -> None:
    bare = opened.path / "folder" / "bare"
    git(opened.path, "init", "--quiet", "--bare", str(bare))
    git(bare, "config", "core.fsmonitor", str(trap))
    git(bare, "config", "core.worktree", str(opened.path))


def include(opened: Workspace, trap: Path) -> None:
    (opened.path / "more").write_text(f"[core]\n\tfsmonitor = {trap}\n[alias]\n\tstatus = !{trap}\n")
    config(f"include.path={opened.path / 'more'}", "includeIf.gitdir:/.path=/dev/null")(opened, trap)


def other_tree(opened: Workspace, trap: Path) -> None:
    config("core.worktree=/", "core.bare=false")(opened, trap)


def commondir(opened: Workspace, trap: Path) -> None:
    own = own_repository(opened)
    git(own, "config", "core.fsmonitor", str(trap))
    (opened.git_dir / "commondir").write_text(str(own / ".git"))


KINDS: dict[str, Trick] = {
    "fsmonitor": fsmonitor,
    "clean and smudge filters": filters,
    "process filter": process_filter,
    "LFS": lfs,
    "textconv, external diff and merge driver": textconv,
    "hooks and hooksPath": hooks,
    "config.worktree": worktree_config,
    "gitdir file": gitdir_file,
    "linked .git": linked_git,
    "nested repository as a submodule": nested_repository,
    "bare repository inside": bare_inside,
    "include.path": include,
    "core.worktree": other_tree,
    "commondir": commondir,
    "credential helper": config("credential.helper=!TRAP", "credential.https://x.helper=!TRAP"),
    "sshCommand and askPass": config("core.sshCommand=TRAP", "core.askPass=TRAP", "ssh.variant=simple"),
    "gpg program": config("gpg.program=TRAP", "gpg.ssh.program=TRAP", "commit.gpgSign=true", "push.gpgSign=true"),
    "pager and editor": config("core.pager=TRAP", "core.editor=TRAP", "sequence.editor=TRAP", "pager.status=TRAP"),
    "aliases": config("alias.status=!TRAP", "alias.add=!TRAP", "alias.commit=!TRAP", "alias.push=!TRAP"),
    "url.insteadOf and ext::": config("url.ext::TRAP .insteadOf=/", "protocol.ext.allow=always"),
    "packObjectsHook": config("uploadpack.packObjectsHook=TRAP", "uploadpack.allowFilter=true"),
    "remote programs": config("remote.origin.uploadpack=TRAP", "remote.origin.receivepack=TRAP", "remote.origin.vcs=x"),
    "bundle URI and maintenance": config("fetch.bundleURI=ext::TRAP", "maintenance.auto=true", "gc.auto=1"),
    "trailers and notes": config("trailer.x.command=TRAP", "trailer.x.cmd=TRAP", "notes.rewriteRef=refs/notes/*"),
}


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return make_remote(tmp_path, {"a.txt": "one\n", "folder/b.txt": "two\n"})


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(base_env=minimal_env(os.environ, home=tmp_path / "home"), grace_s=0.2)


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    script = tmp_path / "trap"
    script.write_text(f"#!/bin/sh\ntouch '{tmp_path / 'sprung'}'\ncat\n")
    script.chmod(0o755)
    return script


async def everything(workspaces: Workspaces, opened: Workspace) -> None:
    """All that the host does with a workspace after the work."""
    await workspaces.uncommitted(opened)
    await workspaces.changes(opened)
    assert await workspaces.commit(opened, "Changed", "agent")
    assert await workspaces.push(opened)
    await workspaces.close(opened, keep=False)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_host_runs_nothing_that_a_repository_names(
    tmp_path: Path, remote: Remote, processes: Processes, trap: Path, kind: str
) -> None:
    workspaces = Workspaces(tmp_path / "state", processes)
    opened = await workspaces.open(ATTEMPT, TaskSpec(title="x", context=Context(repo=str(remote.path))), "agent")
    (opened.path / "a.txt").write_text("changed\n")
    KINDS[kind](opened, trap)
    (tmp_path / "sprung").unlink(missing_ok=True)  # what the work's own git has run is its own affair

    await everything(workspaces, opened)

    assert not (tmp_path / "sprung").exists()
    assert remote.show(opened.branch, "a.txt") == "changed"


async def test_a_repository_on_this_host_makes_no_push_run_anything(
    remote: Remote, processes: Processes, tmp_path: Path, trap: Path
) -> None:
    """Work can have made it: a task may name any path as its repository."""
    workspaces = Workspaces(tmp_path / "sidecar", processes)
    arm(remote.path, trap)
    spec = TaskSpec(title="x", context=Context(repo=str(remote.path)))
    opened = await workspaces.open(ATTEMPT, spec, "agent")
    (opened.path / "new").write_text("x")
    commit = await workspaces.commit(opened, "Work", "agent")
    assert await workspaces.push(opened)
    await workspaces.close(opened, keep=False)

    assert remote.tip(opened.branch) == commit
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "name", ["commondir", "config", "config.worktree", "info", "hooks", "logs", "packed-refs", "index"]
)
async def test_a_link_in_the_repository_makes_the_host_write_nowhere_else(
    tmp_path: Path, remote: Remote, processes: Processes, name: str
) -> None:
    workspaces = Workspaces(tmp_path / "state", processes)
    opened = await workspaces.open(ATTEMPT, TaskSpec(title="x", context=Context(repo=str(remote.path))), "agent")
    (tmp_path / "outside").mkdir()
    outside = tmp_path / "outside" / "file"
    outside.write_text("not yours")
    (opened.path / "a.txt").write_text("changed\n")
    place = opened.git_dir / name
    remove_tree(place)
    place.symlink_to(outside)

    await everything(workspaces, opened)

    assert outside.read_text() == "not yours"
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["file"]


async def test_git_on_the_files_of_the_work_runs_within_the_walls(
    tmp_path: Path, remote: Remote, processes: Processes
) -> None:
    sandbox = Sandbox(processes, tmp_path / "state", Rules())
    if all(missing(level) for level in LEVELS):
        pytest.skip(f"not tested here: {', '.join(f'{level} ({missing(level)})' for level in LEVELS)}")
    assert await sandbox.find("auto") is not Level.NONE, sandbox.why
    workspaces = Workspaces(tmp_path / "state", processes)
    opened = await workspaces.open(ATTEMPT, TaskSpec(title="x", context=Context(repo=str(remote.path))), "agent")
    opened.walls = cell = sandbox.cell(ATTEMPT, opened.place(tmp_path / "state" / "scratch" / "x"))
    try:
        ours = await cell.run(["git", "status", "--porcelain"])
        (opened.path / "a.txt").write_text("changed\n")

        assert ours.exit_code == 0
        assert await workspaces.changes(opened) == ("a.txt",)
        await everything(workspaces, opened)
    finally:
        await cell.clear()
    assert remote.show(opened.branch, "a.txt") == "changed"

"""Thousands of attempts in a row, of every ending, and then nothing of them that nobody owns.

``ATTEMPTS`` says how many the long row makes (10,000).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from sidecar.cgroups import ROOT, groups_of
from tests.support.mesh import Mesh, mesh, until
from tests.support.repositories import git, make_remote

ATTEMPTS: Final = int(os.environ.get("ATTEMPTS", "10000"))
SLOTS: Final = 4
BATCH: Final = 40
SPARE_FDS: Final = 8
"""Connections of the hub that come and go."""


def kinds(repo: Path) -> list[dict[str, Any]]:
    """Work that delivers, changes nothing, fails, daemonises, runs out of time, and is cut off by its check."""
    tree = {"repo": str(repo), "branch": "main"}
    changed = {"command": "date > made; echo ok", "context": tree}
    left = "setsid sleep 6113 >/dev/null 2>&1 & mkdir -p deep/er; ln -s / deep/er/root; mkfifo pipe; echo left"
    return [
        {"title": "x", "executor": "noop"},
        {"command": "true"},
        changed,
        {"command": "true", "context": tree},
        {"command": "date > made; exit 3", "context": tree},
        {"command": left},
        {"command": "sleep 6114", "budget": {"seconds": 1, "fix_attempts": 0}},
        {**changed, "verification": [{"type": "command_succeeds", "command": "sleep 6115 & false"}]},
    ]


def tasks(repo: Path, count: int) -> Iterator[list[dict[str, Any]]]:
    """So many tasks, in batches of one request each."""
    all_kinds = kinds(repo)
    each = ({"max_retries": 0, "budget": {"fix_attempts": 0}, **all_kinds[n % len(all_kinds)]} for n in range(count))
    while batch := [spec for _, spec in zip(range(BATCH), each, strict=False)]:
        yield batch


def below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def processes(running: Mesh) -> list[list[str]]:
    """What the sidecar has started and is still there."""
    return [each.cmdline() for each in psutil.Process(running.sidecars["Host"].pid).children(recursive=True)]


def strays() -> list[int]:
    """Processes of the work, wherever they are."""
    found = psutil.process_iter(["cmdline"])
    return [each.pid for each in found if (each.info["cmdline"] or [""])[-1] in {"6113", "6114", "6115"}]


def groups(running: Mesh) -> list[str]:
    """Control groups of attempts."""
    pid = running.sidecars["Host"].pid
    folders = groups_of(Path(f"/proc/{pid}/cgroup"), ROOT).values()
    return [path.name for folder in folders for path in folder.glob(f"agentcom-{pid}-[0-9]*")]


def descriptors(running: Mesh) -> tuple[int, int]:
    assert running.hub is not None
    return (psutil.Process(running.sidecars["Host"].pid).num_fds(), psutil.Process(running.hub.pid).num_fds())


def branches(repo: Path) -> set[str]:
    return set(git(repo, "for-each-ref", "--format=%(refname:short)", "refs/heads").split()) - {"main"}


def nothing_is_left(folder: Path, count: int) -> None:
    repo = make_remote(folder, {"README": "hello\n"}).path
    with mesh(folder / "mesh", "Host", flags=["--slots", str(SLOTS)], lease_s=30.0) as running:
        first = running.wait(*running.submit_all(next(tasks(repo, 8))), timeout_s=90)  # what is made once and kept
        idle, fds = processes(running), descriptors(running)
        delivered = {view["result"]["branch"] for view in first if view["result"]["pushed"]}
        for batch in tasks(repo, count):
            ended = running.wait(*running.submit_all(batch), timeout_s=600)
            delivered |= {view["result"]["branch"] for view in ended if view["result"]["pushed"]}
            assert {view["state"] for view in ended} <= {"completed", "dead", "failed"}
        until(lambda: processes(running) == idle, "only the helpers of the sidecar are left")
        until(lambda: not groups(running), "no control group is left")
        after = descriptors(running)
        state = folder / "mesh" / "state-Host"
        here = {name: below(state / name) for name in ("work", "alone", "scratch", "tails")}
        caches = [git(cache, "worktree", "list") for cache in state.glob("cache/*.git")]
    kept_on_purpose = len(here["work"]) // 2
    print(f"\n{count} attempts; descriptors of sidecar and hub {fds} -> {after}; {kept_on_purpose=}")
    assert strays() == []
    assert after[0] <= fds[0] + 2
    assert after[1] <= fds[1] + SPARE_FDS
    assert branches(repo) == delivered
    assert all(len(listed.splitlines()) == 1 for listed in caches)  # the repository itself
    assert here["scratch"] == here["tails"] == [], here
    kept = {name.removesuffix(".kept") for name in here["work"] if name.endswith(".kept")}
    others = {name.partition(".")[0] for name in (*here["work"], *here["alone"])} - kept
    assert others == set(), "what is left is kept on purpose: work that lies nowhere else, for a week"


def test_t49_many_attempts_leave_nothing_that_nobody_owns(tmp_path: Path) -> None:
    """No process, control group, descriptor, worktree, scratch file or branch, whatever way the attempts end."""
    nothing_is_left(tmp_path, 16)


@pytest.mark.soak
@pytest.mark.timeout(12 * 3600)
def test_t49_soak_ten_thousand_attempts_leave_nothing_that_nobody_owns(tmp_path: Path) -> None:
    """As above, ten thousand or as many as ``ATTEMPTS`` says."""
    nothing_is_left(tmp_path, ATTEMPTS)

"""The promises of keeping files: what a name stands for, and what becomes of files that cannot be kept."""

import asyncio
from pathlib import Path

import pytest

from protocol.errors import BadInput
from protocol.limits import UPLOAD_BYTES_S
from protocol.model import Artifact, AttemptId, FailureClass, TaskSpec
from protocol.tree import Tree
from sidecar.errors import LeaseOver, UploadFailed
from sidecar.keep import LEAST_S, keep_files, matches
from sidecar.workspace import Workspace

ATTEMPT = AttemptId("A", 1, f"{1:026}", 1)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root = tmp_path / "root"
    for name in ("a.txt", "dist/one.whl", "dist/two.txt", "deep/er/x.log", "deep/y.log", ".git/config", "odd\nname"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (tmp_path / "secret").write_text("outside")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "dist" / "up").symlink_to(tmp_path)
    return Tree(root)


@pytest.mark.parametrize(
    "name,found",
    [
        ("a.txt", ["a.txt"]),
        ("./a.txt", ["a.txt"]),
        ("dist", ["dist/one.whl", "dist/two.txt"]),
        ("dist/", ["dist/one.whl", "dist/two.txt"]),
        ("dist/*.whl", ["dist/one.whl"]),
        ("*/*.log", ["deep/y.log"]),
        ("**/*.log", ["deep/er/x.log", "deep/y.log"]),
        ("deep/**", ["deep/er/x.log", "deep/y.log"]),
        ("d??p/y.log", ["deep/y.log"]),
        ("[ab].txt", ["a.txt"]),
        ("nothing", []),
        ("link", []),
        ("*", ["a.txt"]),
        ("dist/up/secret", []),
        ("**/secret", []),
        ("**/config", []),
    ],
)
def test_a_name_stands_for_regular_files_of_the_workspace(tree: Tree, name: str, found: list[str]) -> None:
    assert sorted(set(matches(tree, name))) == found


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "dist/../../secret", ".git/config", "~/x"])
def test_a_name_that_leaves_the_workspace_is_refused(tree: Tree, name: str) -> None:
    with pytest.raises(BadInput):
        list(matches(tree, name))


def test_a_pattern_does_not_look_at_everything_for_ever(tree: Tree) -> None:
    with pytest.raises(BadInput, match="name them more closely"):
        list(matches(tree, "**/*.none", most=5))


class Shelf:
    """A depot that takes what it is told to take."""

    attempt_bytes = 1 << 30

    def __init__(self, error: Exception | None = None, *, knows: bool = True) -> None:
        self.error, self.knows, self.brought = error, knows, list[str]()

    async def bring(self, _attempt: AttemptId, tree: Tree, path: str) -> Artifact | None:
        if self.error is not None:
            raise self.error
        self.brought.append(path)
        return Artifact(path=path, size_bytes=tree.size_bytes(path), sha256="0" * 64, id="x") if self.knows else None


class Said(list[str]):
    """Lines, and how long it may take."""

    seconds = 0.0

    def allow(self, seconds: float) -> None:
        self.seconds = seconds


def keep(
    shelf: Shelf, tree: Tree, spec: TaskSpec, *, has_repo: bool = False, must: bool = True
) -> tuple[tuple[Artifact, ...], Said]:
    said = Said()
    place = Workspace(tree.root, "", "b", has_repo, ATTEMPT, tree.root, tree.root, "", -1)
    kept = keep_files(shelf, ATTEMPT, spec, place, say=said.append, allow_s=said.allow, must=must)
    return asyncio.run(kept), said


def test_all_that_is_named_is_brought_once_and_what_is_missing_is_told(tree: Tree) -> None:
    shelf = Shelf()
    kept, said = keep(shelf, tree, TaskSpec(command="x", artifacts=("dist/*", "dist/one.whl", "no", "a.txt")))

    assert shelf.brought == ["dist/one.whl", "dist/two.txt", "a.txt"]
    assert [artifact.path for artifact in kept] == shelf.brought
    assert said == ["artifact 'no' is not there"]
    assert said.seconds > 60


def test_a_file_that_is_far_too_large_does_not_stretch_the_time_of_the_attempt(tree: Tree) -> None:
    with (tree.root / "sparse").open("wb") as file:
        file.truncate(1 << 40)

    _, said = keep(Shelf(), tree, TaskSpec(command="x", artifacts=("sparse",)))

    assert said.seconds == LEAST_S + Shelf.attempt_bytes / UPLOAD_BYTES_S


def test_an_answer_that_lies_nowhere_else_is_kept(tree: Tree) -> None:
    spec = TaskSpec(prompt="x", save_as="a.txt")

    assert [artifact.path for artifact in keep(Shelf(), tree, spec)[0]] == ["a.txt"]
    assert keep(Shelf(), tree, spec, has_repo=True)[0] == ()


def test_a_hub_that_keeps_none_is_told_and_fails_nothing(tree: Tree) -> None:
    kept, said = keep(Shelf(knows=False), tree, TaskSpec(command="x", artifacts=("dist/*",)))

    assert (kept, len(said)) == ((), 1)


def test_a_file_that_cannot_be_kept_fails_work_that_passed_and_no_other(tree: Tree) -> None:
    failed, spec = UploadFailed("a.txt", "full", FailureClass.QUOTA), TaskSpec(command="x", artifacts=("a.txt",))

    with pytest.raises(UploadFailed):
        keep(Shelf(failed), tree, spec)
    assert keep(Shelf(failed), tree, spec, must=False) == ((), ["artifact 'a.txt' could not be kept: full"])
    with pytest.raises(LeaseOver):
        keep(Shelf(LeaseOver(ATTEMPT)), tree, spec, must=False)

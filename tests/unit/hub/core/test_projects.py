from typing import Any

import pytest

from hub.core.projects import Project, check_branch, check_commit, fill, inherited, parted
from protocol.errors import BadInput
from protocol.model import Priority
from protocol.projects import BudgetDefaults, CommitBody, ProjectBody, TaskDefaults

PROJECT = Project(
    name="site",
    repository="https://example.org/r.git",
    branch="dev",
    priority=Priority.HIGH,
    defaults=TaskDefaults(budget=BudgetDefaults(seconds=60.0), labels={"team": "a"}, needs=("gpu",)),
)


def test_what_a_task_does_not_say_comes_from_the_project() -> None:
    assert fill({"title": "x"}, PROJECT) == {
        "title": "x",
        "project": "site",
        "priority": "high",
        "needs": ("gpu",),
        "budget": {"seconds": 60.0},
        "labels": {"project": "site", "team": "a"},
        "context": {"repo": "https://example.org/r.git", "branch": "dev"},
    }


def test_what_a_task_says_stays() -> None:
    task = {
        "priority": "low",
        "needs": [],
        "budget": {"tokens": 5},
        "labels": {"team": "b", "project": "mine"},
        "context": {"repo": "git@h:own", "files": ["a"]},
    }
    filled = fill(task, PROJECT)

    assert filled == {**task, "project": "site", "budget": {"seconds": 60.0, "tokens": 5}}


@pytest.mark.parametrize(
    "context, wanted",
    [
        ({"branch": "x"}, {"repo": "https://example.org/r.git", "branch": "x"}),
        ({"repo": "", "branch": ""}, {"repo": "https://example.org/r.git", "branch": "dev"}),
        ({"notes": ""}, {"repo": "https://example.org/r.git", "branch": "dev", "notes": ""}),
        ("nonsense", "nonsense"),
    ],
)
def test_a_repository_and_its_branch_go_together(context: Any, wanted: Any) -> None:  # noqa: ANN401 - JSON
    assert fill({"context": context}, PROJECT)["context"] == wanted


def test_nonsense_stays_for_whoever_reads_the_task() -> None:
    filled = fill({"labels": 3, "budget": "much"}, PROJECT)

    assert (filled["labels"], filled["budget"]) == (3, "much")


def test_a_directory_without_wishes_only_gives_its_name() -> None:
    bare = Project(name="n", directory="/srv/n")

    assert inherited(bare) == {}
    assert fill({"title": "x"}, bare) == {"title": "x", "project": "n", "labels": {"project": "n"}}


def test_credentials_are_parted_from_the_address() -> None:
    body, user, password = parted(ProjectBody(name="n", repository="https://u:p@h/r"))

    assert (body.repository, user, password) == ("https://h/r", "u", "p")


def test_everything_wrong_with_a_project_is_said_at_once() -> None:
    body = ProjectBody(
        name="a b",
        repository="https://u%0a:p@h/r",
        directory="x" * 2000,
        branch="-x",
        description="d" * 300,
        defaults=TaskDefaults(executor="magic", max_retries=-1),
    )

    with pytest.raises(BadInput) as refused:
        parted(body)
    assert [problem.path for problem in refused.value.problems] == [
        "name",
        "repository",
        "directory",
        "directory",
        "branch",
        "branch",
        "description",
        "defaults.executor",
        "defaults.max_retries",
        "repository",
    ]


def test_branches_and_commits_are_looked_at_before_git_sees_them() -> None:
    check_branch("name", "feature/x")
    check_commit(CommitBody(message="Add x", author="A B <a@example.org>"))

    with pytest.raises(BadInput, match="no branch name"):
        check_branch("name", "--orphan")
    with pytest.raises(BadInput, match="2 problems"):
        check_commit(CommitBody(message="\0", author="--amend"))

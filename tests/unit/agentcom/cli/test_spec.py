"""Promises of :mod:`agentcom.cli.spec`."""

# ruff: noqa: S604 - `shell` is a flag of ours, nothing is run here

import json
from pathlib import Path
from typing import Any

import pytest

from agentcom.cli.spec import from_flags, looks_like_tests, repo
from protocol.checks import CheckCommandSucceeds, CheckGitClean, CheckTestPasses
from protocol.errors import BadInput
from protocol.model import Priority, TaskSpec, Tier

TASK = "01m7ychhzmsefnyay68aqh999n"
NONE: dict[str, Any] = {
    **dict.fromkeys(
        (
            *(
                "prompt",
                "shell",
                "project",
                "repo",
                "branch",
                "tier",
                "escalation",
                "clean_room",
                "model",
                "priority",
                "title",
                "save_as",
                "executor",
            ),
            *("fix_attempts", "tokens", "usd", "timeout", "max_retries", "spec"),
        )
    ),
    **dict.fromkeys(("files", "verify", "checks", "needs", "labels", "after", "artifacts", "secrets"), ()),
}


def one(**flags: Any) -> TaskSpec:
    tasks, is_batch = from_flags(NONE | flags)
    assert not is_batch
    return tasks[0]


def problems(**flags: Any) -> dict[str, str]:
    with pytest.raises(BadInput) as caught:
        from_flags(NONE | flags)
    return {p.path: p.problem for p in caught.value.problems}


def test_a_prompt_alone_is_a_task_with_all_defaults() -> None:
    assert one(prompt="do it") == TaskSpec(prompt="do it")


def test_every_flag_reaches_its_field() -> None:
    found = one(
        prompt="p",
        shell="c",
        repo="https://h/r.git",
        branch="b",
        files=("a.py",),
        verify=("pytest -q", "make"),
        checks=('{"type": "git_clean"}',),
        tier="complex",
        model="m",
        priority="high",
        title="t",
        needs=("gpu",),
        labels=("k=v=w",),
        save_as="out.md",
        artifacts=("dist/*",),
        executor="agent",
        fix_attempts="0",
        tokens="10",
        usd="0.5",
        timeout="7",
        max_retries="1",
        after=(TASK,),
    )

    assert (found.prompt, found.command, found.title, found.executor) == ("p", "c", "t", "agent")
    assert (found.context.repo, found.context.branch, found.context.files) == ("https://h/r.git", "b", ("a.py",))
    assert found.verification == (
        CheckTestPasses(command="pytest -q"),
        CheckCommandSucceeds(command="make"),
        CheckGitClean(),
    )
    assert (found.complexity, found.model, found.priority) == (Tier.COMPLEX, "m", Priority.HIGH)
    assert found.artifacts == ("dist/*",)
    assert (found.needs, found.labels, found.save_as, found.depends_on) == (("gpu",), {"k": "v=w"}, "out.md", (TASK,))
    assert (found.budget.tokens, found.budget.usd, found.budget.seconds, found.budget.fix_attempts) == (10, 0.5, 7, 0)
    assert found.max_retries == 1


def test_every_problem_is_named_by_its_flag_at_once() -> None:
    found = problems(
        shell="x",
        tier="hard",
        priority="soon",
        files=("ok.py", "../up"),
        labels=("novalue",),
        needs=("a b",),
        max_retries="99",
        checks=("{bad",),
        timeout="-3",
    )

    assert set(found) == {
        *("--tier", "--priority", "--file 2", "--label", "--needs 1", "--max-retries", "--check", "--timeout"),
    }


def test_a_problem_of_a_check_names_the_flag_that_made_it() -> None:
    assert problems(prompt="x", verify=("true", " ")) == {"--verify 2": "is empty"}
    assert "--check 1: type" in problems(prompt="x", verify=("true",), checks=('{"type": "nope"}',))
    assert "--tokens" in problems(prompt="x", tokens="many")
    assert "--label a b" in problems(prompt="x", labels=("a b=c",))


def test_nothing_to_do_is_told_in_words_of_the_flags() -> None:
    assert problems() == {"": 'nothing to do: give a prompt ("..."), --shell CMD, or --spec FILE'}


def test_a_file_is_read_and_flags_count_more(tmp_path: Path) -> None:
    file = tmp_path / "task.json"
    file.write_text(
        json.dumps({"command": "a", "budget": {"tokens": 5}, "context": {"branch": "b"}, "priority": "low"})
    )

    found = one(spec=str(file), shell="c", usd="1", repo="ssh://h/r")

    assert (found.command, found.priority) == ("c", Priority.LOW)
    assert (found.budget.tokens, found.budget.usd) == (5, 1)
    assert (found.context.branch, found.context.repo) == ("b", "ssh://h/r")


def test_a_problem_of_the_file_keeps_its_path(tmp_path: Path) -> None:
    file = tmp_path / "task.json"
    file.write_text('{"command": "a", "bugdet": {}}')

    assert "--spec: bugdet" in problems(spec=str(file))


def test_a_batch_takes_no_flags_of_a_single_task(tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    file.write_text('{"tasks": [{"command": "a"}, {"comand": "b"}]}')

    found = problems(spec=str(file), title="t")

    assert set(found) == {"--spec", "tasks[1].comand", "tasks[1]"} or set(found) == {"--spec", "tasks[1].comand"}


def test_a_batch_comes_back_whole(tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    file.write_text('{"tasks": [{"command": "a"}, {"command": "b"}]}')

    tasks, is_batch = from_flags(NONE | {"spec": str(file)})

    assert ([task.command for task in tasks], is_batch) == (["a", "b"], True)


@pytest.mark.parametrize(
    "content, words",
    [("{", "is not JSON"), ("[1]", "expected one task"), ('{"tasks": []}', "one at least"), ("3", "expected one task")],
)
def test_a_file_that_holds_no_task_is_refused(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)

    assert words in problems(spec=str(file))["--spec"]


def test_a_missing_file_is_named() -> None:
    assert problems(spec="/nowhere/x.json")["--spec"].startswith("cannot read /nowhere/x.json")


@pytest.mark.parametrize(
    "text", ["https://h/x.git", "git@host:a/b.git", "ssh://git@h:22/x", "file:///srv/x", "host:path/x"]
)
def test_an_address_of_a_repository_stays_as_it_is(text: str) -> None:
    assert repo(text) == text


def test_a_path_of_a_repository_becomes_absolute() -> None:
    assert repo(".") == str(Path.cwd())
    assert repo("a/b") == str(Path.cwd() / "a/b")
    assert repo(None) is None


@pytest.mark.parametrize(
    "command",
    [
        *("pytest", "pytest -q", ".venv/bin/pytest -x", "python -m pytest", "python3.12 -m unittest discover", "tox"),
        *("uv run pytest", "CI=1 poetry run pytest -q", "go test ./...", "cargo test", "cargo nextest run", "npm test"),
        *("npm run test", "yarn test", "make test", "make check", "npx vitest run", "mvn verify", "./gradlew test"),
        *("./run test", "ctest --output-on-failure", "bundle exec rspec", "rake test"),
    ],
)
def test_a_test_runner_is_known(command: str) -> None:
    assert looks_like_tests(command)


@pytest.mark.parametrize(
    "command",
    [
        "make",
        "test -f x",
        "python main.py",
        "npm run build",
        "echo pytest",
        "go build",
        "",
        "'open",
        "cargo fmt",
        "FOO=1",
    ],
)
def test_other_commands_are_no_test_runners(command: str) -> None:
    assert not looks_like_tests(command)

"""Flags of ``agentcom submit`` as task specs, and what is wrong with them in words of the flags.

Pure but for reading the files that flags name. Nothing is sent before everything fits the contract
(:mod:`protocol.schema`), and every problem is reported at once.
"""

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from protocol import schema
from protocol.errors import BadInput, Problem
from protocol.model import TaskSpec

_FLAGS: Final = {
    "prompt": "prompt",
    "command": "--shell",
    "project": "--project",
    "context.repo": "--repo",
    "context.branch": "--branch",
    "context.files": "--file",
    "complexity": "--tier",
    "escalation": "--escalation",
    "clean_room": "--clean-room",
    "model": "--model",
    "priority": "--priority",
    "title": "--title",
    "needs": "--needs",
    "labels": "--label",
    "save_as": "--save-as",
    "artifacts": "--artifact",
    "secrets": "--secret",
    "executor": "--executor",
    "budget.fix_attempts": "--fix-attempts",
    "budget.tokens": "--tokens",
    "budget.usd": "--usd",
    "budget.seconds": "--timeout",
    "max_retries": "--max-retries",
    "depends_on": "--after",
}
_RUNNERS: Final = frozenset(
    {"uv", "poetry", "pdm", "hatch", "pipenv", "bundle", "npx", "pnpx", "bunx", "run", "exec", "time"}
)
_TESTS: Final = re.compile(
    r"(pytest|py\.test|tox|nox|ctest|jest|vitest|mocha|rspec|phpunit|unittest|nose2|bats)$"
    r"|(go|cargo|npm|yarn|pnpm|bun|deno|dotnet|mix|swift|flutter|dart|rake|rails|mvn|gradle|gradlew|sbt|lein|zig) "
    r"(run )?(test|tests|check|verify|nextest)\b"
    r"|(make|just|task|ninja) (test|tests|check)\b"
)
_REMOTE: Final = re.compile(r"[a-z][a-z0-9+.-]*://|[^/\\:]+@?[^/\\:]*:(?![\\/]{0,1}$)")


def looks_like_tests(command: str) -> bool:
    """Whether ``command`` runs a project's tests: then its check is ``test_passes``, else ``command_succeeds``.

    Known by the name of the runner (``pytest``, ``go test``, ``npm run test``, ``make check``, ``./run test``, ...),
    behind assignments and launchers (``CI=1 uv run pytest -q``). The two checks work alike; the name says what was
    proven.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    while words and ("=" in words[0] or words[0] in _RUNNERS):
        words = words[1:]
    if not words:
        return False
    name = Path(words[0]).name
    if re.fullmatch(r"(python|pypy)[\d.]*", name) and words[1:2] == ["-m"]:
        words = words[2:]
        name = words[0] if words else ""
    if words[1:2] in (["test"], ["tests"]) and words[0].startswith("./"):
        return True
    return bool(_TESTS.match(name) or _TESTS.match(" ".join([name, *words[1:3]])))


def from_flags(flags: Mapping[str, Any]) -> tuple[list[TaskSpec], bool]:
    """The tasks to submit, and whether they are a batch.

    Args:
        flags: the parameters of ``agentcom submit`` by name; numbers as the texts that were given.
    Raises:
        BadInput: everything that is wrong, each problem under the flag that it belongs to.
    """
    problems: list[Problem] = []
    given = _given(flags, problems)
    base: object = {}
    if flags["spec"]:
        base = _read_spec_file(flags["spec"])
    if isinstance(base, Mapping) and "tasks" in base:
        return _batch(base, given, problems), True
    if not isinstance(base, Mapping):
        raise BadInput([Problem("--spec", 'expected one task {...} or {"tasks": [...]}')], "task")
    task, found = schema.read_spec(_over(base, given))
    problems += [Problem(_flag_of(p.path, flags, given), p.problem) for p in found]
    if problems or task is None:
        raise BadInput(_in_words(problems), "task")
    return [task], False


def _batch(base: Mapping[str, Any], given: Mapping[str, Any], problems: list[Problem]) -> list[TaskSpec]:
    if given:
        problems.append(Problem("--spec", "holds several tasks: put what belongs to each of them into the file"))
    entries = base["tasks"]
    if not isinstance(entries, list) or not entries:
        raise BadInput([*problems, Problem("--spec", '"tasks" must be a list of tasks, with one at least')], "batch")
    tasks: list[TaskSpec] = []
    for number, entry in enumerate(entries):
        task, found = schema.read_spec(entry, f"tasks[{number}]")
        problems.extend(found)
        if task is not None:
            tasks.append(task)
    if problems:
        raise BadInput(problems, "batch")
    return tasks


def _given(flags: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
    context = {"repo": repo(flags["repo"]), "branch": flags["branch"], "files": list(flags["files"])}
    budget = {
        "tokens": _number(flags["tokens"]),
        "usd": _number(flags["usd"]),
        "seconds": _number(flags["timeout"]),
        "fix_attempts": _number(flags["fix_attempts"]),
    }
    found = {
        "prompt": flags["prompt"],
        "command": flags["shell"],
        "project": flags["project"],
        "context": _present(context),
        "complexity": flags["tier"],
        "escalation": flags["escalation"],
        "clean_room": flags["clean_room"],
        "model": flags["model"],
        "priority": flags["priority"],
        "title": flags["title"],
        "needs": list(flags["needs"]),
        "labels": _labels(flags["labels"], problems),
        "save_as": flags["save_as"],
        "artifacts": list(flags["artifacts"]),
        "secrets": [_secret(text) for text in flags["secrets"]],
        "executor": flags["executor"],
        "budget": _present(budget),
        "max_retries": _number(flags["max_retries"]),
        "depends_on": list(flags["after"]),
        "verification": [*map(check_of, flags["verify"]), *_checks(flags["checks"], problems)],
    }
    return _present(found)


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, [], {})}


def _over(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Flags count more than the file; the parts of ``context`` and ``budget`` one by one."""
    merged = dict(base)
    for name, value in given.items():
        below = merged.get(name)
        merged[name] = {**below, **value} if isinstance(value, dict) and isinstance(below, Mapping) else value
    return merged


def repo(text: str | None) -> str | None:
    """A repository as the agents need it: an address as it is, a path of this machine absolute."""
    if not text or _REMOTE.match(text):
        return text
    return str(Path(text).expanduser().resolve())


def _number(text: str | None) -> int | float | str | None:
    """``text`` as a number if it is one; else as it is, so that the contract names it among all other problems."""
    if text is None:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def check_of(command: str) -> dict[str, str]:
    """The check that a command is: of tests, if it looks like a test runner."""
    kind = "test_passes" if looks_like_tests(command) else "command_succeeds"
    return {"type": kind, "command": command}


def _checks(texts: Sequence[str], problems: list[Problem]) -> list[Any]:
    found = []
    for text in texts:
        try:
            found.append(json.loads(text))
        except ValueError as exc:
            problems.append(Problem("--check", f"not JSON ({exc}): {text[:60]!r}"))
    return found


def _labels(texts: Sequence[str], problems: list[Problem]) -> dict[str, str]:
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            problems.append(Problem("--label", f"expected key=value, found {text[:60]!r}"))
        else:
            found[key] = value
    return found


def _secret(text: str) -> dict[str, str]:
    """``NAME``, or ``VARIABLE=NAME``."""
    variable, equals, name = text.partition("=")
    return {"name": name, "env": variable} if equals else {"name": text}


def _read_spec_file(name: str) -> object:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        return json.loads(text)
    except (OSError, UnicodeDecodeError) as exc:
        problem = f"cannot read {name}: {getattr(exc, 'strerror', None) or exc}"
        raise BadInput([Problem("--spec", problem)], "task") from exc
    except ValueError as exc:
        raise BadInput([Problem("--spec", f"{name} is not JSON: {exc}")], "task") from exc


def _flag_of(path: str, flags: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """The flag that a path of the contract belongs to; what came from the file keeps its path."""
    head, _, rest = path.partition("[")
    if head.split(".")[0] not in given:
        return f"--spec: {path}" if flags["spec"] and path else path
    if head == "verification":
        number = int(rest.partition("]")[0]) if rest else 0
        verifies = len(flags["verify"])
        inner = rest.partition("]")[2].removeprefix(".")
        name = f"--verify {number + 1}" if number < verifies else f"--check {number - verifies + 1}"
        return f"{name}: {inner}" if inner and number >= verifies else name
    if head.startswith("labels."):
        return f"--label {head.removeprefix('labels.')}"
    return f"{_FLAGS.get(head, head)}{f' {int(rest[:-1]) + 1}' if rest[:-1].isdecimal() else ''}"


def _in_words(problems: Sequence[Problem]) -> list[Problem]:
    nothing = "nothing to do: give a title, a prompt or a command"
    wanted = 'nothing to do: give a prompt ("..."), --shell CMD, or --spec FILE'
    return [Problem(p.path, wanted if p.problem == nothing else p.problem) for p in problems]

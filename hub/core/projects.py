"""What a project is, and what its tasks inherit.

Pure. What a task says itself always wins, field by field; only a repository and its branch go together. The callers are
``hub/services/projects.py``, which keeps them, and ``hub/web/tasks.py``, before a spec is read.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from hub.core import pulls
from protocol import git, schema
from protocol.errors import BadInput, Problem
from protocol.ids import PROJECT
from protocol.limits import MAX_NAME_CHARS, MAX_PATH_CHARS, MAX_TITLE_CHARS
from protocol.model import Priority
from protocol.projects import CommitBody, ProjectBody, TaskDefaults
from protocol.pulls import MAX_PATTERNS, Forge, PullRules

_MOST_DEEP: Final = 4
"""Times that a pattern may say ``**``."""
_MOST_SIZE: Final = 1_000_000
_MERGED: Final = ("budget", "labels")
"""Objects of which a task may give a part and inherit the rest."""


MAX_MESSAGE_CHARS: Final = 65_536
_AUTHOR: Final = re.compile(r"[^<>\x00-\x1f]+ <[^<>\s]*>")


class Project(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A project as it is kept; ``repository`` has no credentials in it."""

    name: str
    repository: str = ""
    directory: str = ""
    branch: str = ""
    priority: Priority | None = None
    defaults: TaskDefaults = TaskDefaults()
    description: str = ""
    default: bool = False
    pulls: PullRules = PullRules()
    created_ms: int = 0
    changed_ms: int = 0
    version: int = 0
    """Counts its changes, from 1; the row of the store has it, not its body."""


def problems_of(body: ProjectBody) -> Iterator[Problem]:
    """What is wrong with a project that somebody wants to register, or to change so; credentials are split off."""
    if not PROJECT.fullmatch(body.name):
        yield Problem("name", f"letters, digits and ._- (at most {MAX_NAME_CHARS}), found {body.name[:60]!r}")
    if bool(body.repository) == bool(body.directory):
        yield Problem("repository", "a project is one of two things: give a repository or a directory")
    if body.repository and (why := git.address_problem(body.repository)):
        yield Problem("repository", why)
    if body.directory and (not body.directory.startswith("/") or not body.directory.isprintable()):
        yield Problem("directory", "an absolute path on the hub's machine")
    if len(body.directory) > MAX_PATH_CHARS:
        yield Problem("directory", f"at most {MAX_PATH_CHARS} characters")
    if body.branch and not git.is_branch(body.branch):
        yield Problem("branch", f"{body.branch[:100]!r} is no branch name")
    if body.branch and body.directory:
        yield Problem("branch", "a directory has no branches")
    if len(body.description) > MAX_TITLE_CHARS:
        yield Problem("description", f"{len(body.description)} characters; at most {MAX_TITLE_CHARS}")
    yield from _default_problems(body)
    yield from _pull_problems(body)


def parted(body: ProjectBody) -> tuple[ProjectBody, str, str]:
    """A project whose address has no credentials, and user and password that were in it.

    Raises:
        BadInput: anything about it cannot be; all of it is listed.
    """
    address, user, password = git.split_login(body.repository)
    body = msgspec.structs.replace(body, repository=address)
    problems = list(problems_of(body))
    if not (user + password).isprintable() or len(user + password) > MAX_PATH_CHARS:
        problems.append(Problem("repository", "user and password are printable, and not longer than an address"))
    if problems:
        raise BadInput(problems, "project")
    return body, user, password


def check_branch(path: str, name: str) -> None:
    """Pass if this can be the name of a branch.

    Raises:
        BadInput: it cannot.
    """
    if not git.is_branch(name):
        raise BadInput([Problem(path, f"{name[:100]!r} is no branch name")], "body")


def check_commit(body: CommitBody) -> None:
    """Pass if this can be committed.

    Raises:
        BadInput: it cannot.
    """
    problems = []
    if not body.message.strip() or "\0" in body.message or len(body.message) > MAX_MESSAGE_CHARS:
        problems.append(Problem("message", f"1 to {MAX_MESSAGE_CHARS:,} characters, none of them NUL"))
    if body.author and (not _AUTHOR.fullmatch(body.author) or len(body.author) > MAX_TITLE_CHARS):
        problems.append(Problem("author", f"expected Name <address>, found {body.author[:60]!r}"))
    if problems:
        raise BadInput(problems, "commit")


def _default_problems(body: ProjectBody) -> Iterator[Problem]:
    """Problems that every task of the project would have."""
    _, found = schema.read_spec({"title": "a task", "command": "true", **msgspec.to_builtins(body.defaults)})
    for problem in found:
        yield Problem(f"defaults.{problem.path}".rstrip("."), problem.problem)


def _pull_problems(body: ProjectBody) -> Iterator[Problem]:
    rules = body.pulls
    if rules.forge is Forge.NONE:
        return
    if pulls.place_of(rules.forge, git.split_login(body.repository)[0]) is None:
        owner = "https://HOST/OWNER/NAME" if rules.forge is Forge.GITHUB else "https://HOST[/...]/OWNER/NAME"
        yield Problem("pulls.forge", f"requests are opened for repositories at {owner}")
    if rules.into and not git.is_branch(rules.into):
        yield Problem("pulls.into", f"{rules.into[:100]!r} is no branch name")
    if len(rules.protected) > MAX_PATTERNS:
        yield Problem("pulls.protected", f"{len(rules.protected)} patterns; at most {MAX_PATTERNS}")
    for number, pattern in enumerate(rules.protected[:MAX_PATTERNS]):
        if not pattern.strip("/") or len(pattern) > MAX_PATH_CHARS or pattern.count("**") > _MOST_DEEP:
            yield Problem(f"pulls.protected[{number}]", f"a path or a pattern of up to {MAX_PATH_CHARS} characters")
    for name in ("most_lines", "most_files"):
        if not 0 <= getattr(rules, name) <= _MOST_SIZE:
            yield Problem(f"pulls.{name}", f"a number from 0 to {_MOST_SIZE:,}")


def fill(task: Mapping[str, Any], project: Project) -> dict[str, Any]:
    """A task (decoded JSON, not checked yet) with what it inherits from its project."""
    filled = {**inherited(project), **task, "project": project.name}
    for name in _MERGED:
        own, theirs = task.get(name), inherited(project).get(name)
        if isinstance(own, Mapping) and isinstance(theirs, Mapping):
            filled[name] = {**theirs, **own}
    context = task.get("context", {})
    if project.repository and isinstance(context, Mapping) and not context.get("repo"):
        base = {"repo": project.repository} | ({"branch": project.branch} if project.branch else {})
        given = {name: value for name, value in context.items() if value != "" or name not in {"repo", "branch"}}
        filled["context"] = {**base, **given}
    labels = filled.get("labels", {})
    if isinstance(labels, Mapping):
        filled["labels"] = {"project": project.name, **labels}
    return filled


def inherited(project: Project) -> dict[str, Any]:
    """What tasks of a project get that do not say it themselves, as JSON would have it."""
    found: dict[str, Any] = msgspec.to_builtins(project.defaults)
    if project.priority is not None:
        found["priority"] = project.priority.value
    return found

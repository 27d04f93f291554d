"""A forge for tests: a server of one repository that knows pull requests, as Forgejo (and Gitea) or as GitHub.

Speaks the APIs as they are published (https://codeberg.org/api/swagger, https://docs.github.com/rest/pulls): routes,
bodies, statuses and headers, and says no to a body with a field that is not in there or has another type. It keeps
state; what a request changes and how it is merged is real git. Faults are played once each, before a request is done or
after it.
"""

import base64
import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.git_server import PASSWORD, USER, GitServer, Reply, git_server
from tests.support.repositories import git

Body = dict[str, Any]
OWNER: Final = "people"
_WIP: Final = ("WIP:", "[WIP]")
_TEXT, _FLAG, _COUNT, _LIST = str, bool, int, list
_FORGEJO: Final[dict[str, dict[str, type]]] = {
    "create": {
        "assignee": _TEXT, "assignees": _LIST, "base": _TEXT, "body": _TEXT, "due_date": _TEXT, "head": _TEXT,
        "labels": _LIST, "milestone": _COUNT, "title": _TEXT,
    },
    "edit": {
        "allow_maintainer_edit": _FLAG, "assignee": _TEXT, "assignees": _LIST, "base": _TEXT, "body": _TEXT,
        "due_date": _TEXT, "labels": _LIST, "milestone": _COUNT, "state": _TEXT, "title": _TEXT,
        "unset_due_date": _FLAG,
    },
    "merge": {
        "Do": _TEXT, "MergeCommitID": _TEXT, "MergeMessageField": _TEXT, "MergeTitleField": _TEXT,
        "delete_branch_after_merge": _FLAG, "force_merge": _FLAG, "head_commit_id": _TEXT,
        "merge_when_checks_succeed": _FLAG,
    },
}  # fmt: skip
_GITHUB: Final[dict[str, dict[str, type]]] = {
    "create": {
        "title": _TEXT, "head": _TEXT, "head_repo": _TEXT, "base": _TEXT, "body": _TEXT,
        "maintainer_can_modify": _FLAG, "draft": _FLAG, "issue": _COUNT,
    },
    "edit": {"title": _TEXT, "body": _TEXT, "state": _TEXT, "base": _TEXT, "maintainer_can_modify": _FLAG},
    "merge": {"commit_title": _TEXT, "commit_message": _TEXT, "sha": _TEXT, "merge_method": _TEXT},
}  # fmt: skip


class Says(Exception):
    """The forge answers with an error."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None, **more: object) -> None:
        self.status, self.body, self.headers = status, {"message": message, **more}, dict(headers or {})
        super().__init__(status, message)


@dataclass
class Pull:
    """A pull request, as the forge keeps it."""

    number: int
    head: str
    base: str
    title: str
    body: str
    is_draft: bool = False
    state: str = "open"
    is_merged: bool = False
    last: str = ""
    """Its last commit when it was merged or closed."""
    repository: int = 1
    """Whose branch it is; others are forks."""


@dataclass
class Fault:
    """What goes wrong with one request: ``where`` is in its method and path; ``reply`` ``None``: it hangs up."""

    where: str
    reply: Reply | None
    is_after: bool = False
    """The request is done before it goes wrong."""
    then: Callable[[], object] = lambda: None
    """What happens just before the answer."""


@dataclass
class ForgeServer:
    """A forge that runs.

    Attributes:
        asked: method, path and body of every request of its API.
        bad: requests that are none of its API; a test ends with none.
        page: most files on a page, whatever is asked for.
        has_drafts: only for GitHub.
    """

    kind: str
    git: GitServer
    pulls: list[Pull] = field(default_factory=list)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    page: int = 50
    has_drafts: bool = True
    password: str = PASSWORD
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def address(self) -> str:
        """The repository's address, with user and password."""
        return self.git.with_login()

    def fail(self, where: str, status: int, message: str = "", *, is_after: bool = False, **headers: str) -> None:
        """Have one request answered so."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.faults.append(Fault(where, _json(status, {"message": message}, named), is_after))

    def cut(self, where: str, *, is_after: bool = False, then: Callable[[], object] = lambda: None) -> None:
        """Hang up at one request, without an answer."""
        self.faults.append(Fault(where, None, is_after, then))

    def count(self, where: str) -> int:
        """Requests that have this in their method and path."""
        return sum(where in f"{method} {path}" for method, path, _ in self.asked)

    # --- HTTP -----------------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
        """One request of the API."""
        with self._lock:
            value = json.loads(body) if body else {}
            self.asked.append((method, path, value))
            fault = next((each for each in self.faults if each.where in f"{method} {path}"), None)
            if fault is not None:
                self.faults.remove(fault)
                if not fault.is_after:
                    return fault.reply
            try:
                reply = self._done(method, path, headers, value)
            except Says as said:
                reply = _json(said.status, said.body, said.headers)
            if fault is None:
                return reply
            fault.then()
            return fault.reply

    def _done(self, method: str, path: str, headers: Mapping[str, str], value: Body) -> Reply:
        if headers.get("Authorization") != self._wanted():
            raise Says(401, "Bad credentials" if self.is_github else "invalid username, password or token")
        parts = urlsplit(path)
        query = {name: values[-1] for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
        for at, pattern, act in self._routes():
            if at == method and (found := re.fullmatch(pattern, parts.path)):
                return act(*map(unquote, found.groups()), query if method == "GET" else value)
        self.bad.append(f"{method} {path}")
        raise Says(404, "Not Found")

    @property
    def is_github(self) -> bool:
        """Which of the two it is."""
        return self.kind == "github"

    def _wanted(self) -> str:
        if self.is_github:
            return f"Bearer {self.password}"
        return "Basic " + base64.b64encode(f"{USER}:{self.password}".encode()).decode()

    def _routes(self) -> list[tuple[str, str, Callable[..., Reply]]]:
        name = self.git.remote.path.name.removesuffix(".git")
        one = f"/api/{'v3' if self.is_github else 'v1'}/repos/{OWNER}/{name}"
        pull = rf"{one}/pulls/(\d+)"
        routes: list[tuple[str, str, Callable[..., Reply]]] = [
            (
                "GET",
                one,
                lambda _q: _json(200, {"name": name, "full_name": f"{OWNER}/{name}", "default_branch": "main"}),
            ),
            ("POST", f"{one}/pulls", self._create),
            ("GET", pull, lambda number, _q: _json(200, self._shown(self._one(number)))),
            ("PATCH", pull, self._edit),
            ("GET", f"{pull}/files", self._files),
        ]
        if self.is_github:
            return [
                *routes,
                ("GET", f"{one}/pulls", self._list),
                ("PUT", f"{pull}/merge", self._merge),
                ("POST", "/api/graphql", self._graph),
            ]
        return [
            *routes,
            ("GET", f"{one}/pulls", self._page),
            ("GET", rf"{one}/pulls/([^/]+)/([^/]+)", self._between),
            ("POST", f"{pull}/merge", self._merge),
        ]

    # --- what it does -----------------------------------------------------------------------------------------------

    def _checked(self, what: str, value: Body, *needed: str) -> dict[str, Any]:
        known = (_GITHUB if self.is_github else _FORGEJO)[what]
        wrong = [name for name in value if name not in known or type(value[name]) is not known[name]]
        missing = [name for name in needed if not value.get(name)]
        if wrong or missing:
            self.bad.append(f"{what}: wrong {wrong}, missing {missing}")
            raise Says(
                422, "Validation Failed", errors=[{"field": name, "code": "invalid"} for name in wrong + missing]
            )
        found: dict[str, Any] = value
        return found

    def _create(self, value: Body) -> Reply:
        value = self._checked("create", value, "head", "base", "title")
        head, base = value["head"], value["base"]
        for branch in (head, base):
            if not self.git.remote.tip(branch):
                if self.is_github:
                    raise Says(422, "Validation Failed", errors=[{"field": "head", "code": "invalid"}])
                raise Says(404, "The target couldn't be found.")
        if any((each.head, each.base, each.state, each.repository) == (head, base, "open", 1) for each in self.pulls):
            if self.is_github:
                said = f"A pull request already exists for {OWNER}:{head}."
                raise Says(422, "Validation Failed", errors=[{"code": "custom", "message": said}])
            raise Says(409, "pull request already exists for these targets")
        if value.get("draft") and not self.has_drafts:
            raise Says(422, "Draft pull requests are not supported in this repository.")
        pull = Pull(len(self.pulls) + 1, head, base, value["title"], value.get("body", ""), bool(value.get("draft")))
        self.pulls.append(pull)
        return _json(201, self._shown(pull))

    def _edit(self, number: str, value: Body) -> Reply:
        value, pull = self._checked("edit", value), self._one(number)
        pull.title, pull.body = value.get("title", pull.title), value.get("body", pull.body)
        pull.state = value.get("state", pull.state)
        return _json(200 if self.is_github else 201, self._shown(pull))

    def _between(self, base: str, head: str, _query: dict[str, str]) -> Reply:
        found = [pull for pull in self.pulls if (pull.base, pull.head, pull.repository) == (base, head, 1)]
        if not found:
            raise Says(404, "The target couldn't be found.")
        return _json(200, self._shown(found[0]))

    def _list(self, query: dict[str, str]) -> Reply:
        strange = set(query) - {"state", "head", "base", "sort", "direction", "per_page", "page"}
        self.bad += sorted(strange)
        _, _, head = query.get("head", "").partition(":")
        found = [
            pull
            for pull in reversed(self.pulls)
            if head in {"", pull.head} and pull.repository == 1 and query.get("base", pull.base) == pull.base
            and query.get("state", "open") in {"all", pull.state}
        ]  # fmt: skip
        return _json(200, [self._shown(pull) for pull in found])

    def _page(self, query: dict[str, str]) -> Reply:
        self.bad += sorted(set(query) - {"state", "sort", "milestone", "labels", "poster", "page", "limit"})
        found = [pull for pull in reversed(self.pulls) if query.get("state", "open") in {"all", pull.state}]
        size = min(self.page, int(query.get("limit", 30)))
        first = (int(query.get("page", 1)) - 1) * size
        return _json(200, [self._shown(pull) for pull in found[first : first + size]])

    def _files(self, number: str, query: dict[str, str]) -> Reply:
        pull = self._one(number)
        size = min(self.page, int(query.get("per_page" if self.is_github else "limit", 30)))
        first = (int(query.get("page", 1)) - 1) * size
        found = self._changes(pull)
        more = {} if self.is_github else {"X-HasMore": str(len(found) > first + size).lower()}
        return _json(200, found[first : first + size], more)

    def _changes(self, pull: Pull) -> list[dict[str, Any]]:
        path, span = self.git.remote.path, f"{pull.base}...{pull.head}"
        options = ("-c", "core.quotePath=false", "diff", "-M", "--no-color")
        lines = git(path, *options, "--numstat", span).splitlines()
        kinds = [line.split("\t") for line in git(path, *options, "--name-status", span).splitlines()]
        gone, changed = ("removed", "modified") if self.is_github else ("deleted", "changed")
        found = []
        for line, (kind, *names) in zip(lines, kinds, strict=True):
            added, removed = (int(number) if number != "-" else 0 for number in line.split("\t")[:2])
            status = {"A": "added", "D": gone, "R": "renamed"}.get(kind[0], changed)
            one = {"filename": names[-1], "status": status, "additions": added, "deletions": removed}
            found.append({**one, "changes": added + removed, "previous_filename": names[0] if kind[0] == "R" else ""})
        return found

    def _merge(self, number: str, value: Body) -> Reply:
        wanted = self._checked("merge", value, *(() if self.is_github else ("Do",)))
        pull, remote = self._one(number), self.git.remote
        if pull.state != "open":
            raise Says(405 if self.is_github else 404, "Pull Request is not mergeable")
        if self._is_draft(pull):
            raise Says(405, "Work in progress PRs cannot be merged")
        tip = remote.tip(pull.head)
        if wanted.get("sha" if self.is_github else "head_commit_id", tip) != tip:
            raise Says(409, "head out of date")
        tree = git(remote.path, "rev-parse", f"{tip}^{{tree}}")
        if git(remote.path, "merge-base", pull.base, tip) != remote.tip(pull.base):
            raise Says(405 if self.is_github else 409, "merge conflict")
        made = git(remote.path, "commit-tree", tree, "-p", remote.tip(pull.base), "-p", tip, "-m", f"Merge #{number}")
        git(remote.path, "update-ref", f"refs/heads/{pull.base}", made)
        pull.state, pull.is_merged, pull.last = "closed", True, tip
        return _json(200, {"sha": made, "merged": True, "message": "merged"} if self.is_github else None)

    def _graph(self, value: Body) -> Reply:
        node = value["variables"]["id"]
        pull = next((each for each in self.pulls if f"PR_{each.number}" == node), None)
        if "markPullRequestReadyForReview" not in value["query"] or pull is None:
            return _json(200, {"data": None, "errors": [{"message": f"Could not resolve to a node: {node}"}]})
        pull.is_draft = False
        return _json(200, {"data": {"markPullRequestReadyForReview": {"clientMutationId": None}}})

    def _one(self, number: str) -> Pull:
        if not 1 <= int(number) <= len(self.pulls):
            raise Says(404, "Not Found")
        return self.pulls[int(number) - 1]

    def _is_draft(self, pull: Pull) -> bool:
        return pull.is_draft if self.is_github else pull.title.upper().startswith(_WIP)

    def _shown(self, pull: Pull) -> dict[str, Any]:
        tip = self.git.remote.tip(pull.head)
        if self.is_github and pull.state != "open":
            tip = pull.last  # Forgejo tells the newest commit of the branch, as long as that is there
        where = self.git.url.removesuffix(".git")
        shown = {
            "id": 1000 + pull.number,
            "number": pull.number,
            "url": f"{where}/pulls/{pull.number}",
            "html_url": f"{where}/pull{'' if self.is_github else 's'}/{pull.number}",
            "title": pull.title,
            "body": pull.body,
            "state": pull.state,
            "draft": self._is_draft(pull),
            "head": {"label": pull.head, "ref": pull.head, "sha": tip, "repo": None, "repo_id": pull.repository},
            "base": {
                "label": pull.base,
                "ref": pull.base,
                "sha": self.git.remote.tip(pull.base),
                "repo": None,
                "repo_id": 1,
            },
            "merged_at": "2026-01-01T00:00:00Z" if pull.is_merged else None,
            "labels": [],
            "user": {"id": 1, "login": USER},
        }
        more = {"node_id": f"PR_{pull.number}"} if self.is_github else {"merged": pull.is_merged, "mergeable": True}
        return shown | more


def _json(status: int, value: object, headers: Mapping[str, str] | None = None) -> Reply:
    body = b"" if value is None else json.dumps(value).encode()
    return status, {"Content-Type": "application/json; charset=utf-8", **(headers or {})}, body


@contextlib.contextmanager
def forge_server(folder: Path, kind: str = "forgejo") -> Iterator[ForgeServer]:
    """A forge with one repository, which only who knows the password (or token) may read and write."""
    with git_server(folder, OWNER) as server:
        forge = ForgeServer(kind, server)
        server.apis["/api/"] = forge.answer
        yield forge

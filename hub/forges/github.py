"""Pull requests at GitHub, and at GitHub Enterprise Server: https://docs.github.com/rest/pulls.

Only its other API (GraphQL) can take a request out of draft. Where a repository has no drafts (private ones of some
plans), the title says ``WIP:`` instead, and the hub treats it as one.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from hub.core.pulls import Place
from hub.core.risk import FileChange
from hub.forges.http import Line, Sessions
from hub.forges.shapes import MOST_FILES, ForgeFailed, Seen, Trouble, Wanted
from protocol.pulls import Method

DRAFT: Final = "WIP: "
_PAGE: Final = 100
_UNPROCESSABLE: Final = 422
_READY: Final = "mutation($id: ID!) { markPullRequestReadyForReview(input: {pullRequestId: $id}) { clientMutationId } }"


class _Branch(Struct):
    sha: str


class _Pull(Struct):
    number: int
    html_url: str
    state: str
    head: _Branch
    title: str = ""
    node_id: str = ""
    body: str | None = None
    draft: bool = False
    merged_at: str | None = None


class _File(Struct):
    filename: str
    status: str
    previous_filename: str = ""
    additions: int = 0
    deletions: int = 0


class _Repository(Struct):
    default_branch: str


class GitHub:
    """A repository at GitHub; see :class:`hub.forges.shapes.Forge`."""

    def __init__(self, sessions: Sessions, place: Place, _user: str, password: str) -> None:
        headers = {
            "Authorization": f"Bearer {password}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        self._line = Line(sessions, place.api, headers, (password,))
        self._repository, self._owner = ("repos", place.owner, place.name), place.owner
        self._graph = f"{place.api.removesuffix('/v3')}"

    async def default_branch(self) -> str:
        """See :class:`hub.forges.shapes.Forge`."""
        doing = "read the repository"
        answer = await self._line.ask("GET", self._repository, doing)
        found: _Repository = self._line.shaped(answer, doing, _Repository)
        return found.default_branch

    async def find(self, head: str, base: str) -> Seen | None:
        """See :class:`hub.forges.shapes.Forge`."""
        doing = "look for the request"
        query = {"head": f"{self._owner}:{head}", "base": base, "state": "all", "sort": "created", "direction": "desc"}
        answer = await self._line.ask("GET", (*self._repository, "pulls"), doing, query=query)
        found: list[_Pull] = self._line.shaped(answer, doing, list[_Pull])
        seen = [_seen(pull) for pull in found]  # the newest first
        return next((each for each in seen if each.state == "open"), seen[0] if seen else None)

    async def open(self, wanted: Wanted) -> Seen:
        """See :class:`hub.forges.shapes.Forge`."""
        body = {"head": wanted.head, "base": wanted.base, "title": wanted.title, "body": wanted.text}
        try:
            return await self._open({**body, "draft": True})
        except ForgeFailed as exc:
            if exc.status != _UNPROCESSABLE:
                raise
            if (found := await self.find(wanted.head, wanted.base)) is not None and found.state == "open":
                return found  # somebody was quicker
            if "draft" not in exc.said.lower():
                raise
        return await self._open({**body, "title": DRAFT + wanted.title})

    async def _open(self, body: dict[str, Any]) -> Seen:
        doing = "open the request"
        answer = await self._line.ask("POST", (*self._repository, "pulls"), doing, body=body)
        return _seen(self._line.shaped(answer, doing, _Pull))

    async def look(self, number: int) -> Seen:
        """See :class:`hub.forges.shapes.Forge`."""
        doing = "look at the request"
        answer = await self._line.ask("GET", self._one(number), doing)
        return _seen(self._line.shaped(answer, doing, _Pull))

    async def files(self, number: int) -> tuple[Sequence[FileChange], bool]:
        """See :class:`hub.forges.shapes.Forge`."""
        doing, found = "list its files", list[FileChange]()
        for page in range(1, MOST_FILES // _PAGE + 1):
            query = {"page": page, "per_page": _PAGE}
            answer = await self._line.ask("GET", (*self._one(number), "files"), doing, query=query)
            files: list[_File] = self._line.shaped(answer, doing, list[_File])
            found += map(_file, files)
            if len(files) < _PAGE:
                return found, True
        return found, False

    async def tell(self, seen: Seen, title: str, text: str) -> None:
        """See :class:`hub.forges.shapes.Forge`."""
        body = {"title": f"{DRAFT if _is_told(seen) else ''}{title}", "body": text}
        await self._line.ask("PATCH", self._one(seen.number), "describe the request", body=body)

    async def ready(self, seen: Seen, title: str) -> None:
        """See :class:`hub.forges.shapes.Forge`."""
        doing = "take it out of draft"
        if _is_told(seen):
            await self._line.ask("PATCH", self._one(seen.number), doing, body={"title": title})
            return
        body = {"query": _READY, "variables": {"id": seen.node}}
        answer = await self._line.ask("POST", ("graphql",), doing, body=body, api=self._graph)
        errors = answer.value.get("errors") if isinstance(answer.value, dict) else None
        if errors:  # it answers 200 to what it refuses
            raise ForgeFailed(Trouble.REJECTED, self._line.api, doing, self._line.said(answer.value))

    async def merge(self, number: int, commit: str, method: Method) -> None:
        """See :class:`hub.forges.shapes.Forge`."""
        body = {"sha": commit, "merge_method": method.value}
        await self._line.ask("PUT", (*self._one(number), "merge"), "merge the request", body=body)

    def _one(self, number: int) -> tuple[str | int, ...]:
        return (*self._repository, "pulls", number)


def _is_told(seen: Seen) -> bool:
    """Whether it is a draft by its title alone."""
    return seen.is_draft and not seen.node


def _seen(pull: _Pull) -> Seen:
    is_told = not pull.draft and pull.title.startswith(DRAFT)
    state = "merged" if pull.merged_at else pull.state
    # Without its name in the other API it is a draft by its title.
    node = "" if is_told else pull.node_id
    return Seen(pull.number, pull.html_url, state, pull.draft or is_told, pull.head.sha, node, pull.body or "")


def _file(file: _File) -> FileChange:
    return FileChange(
        file.filename,
        file.previous_filename,
        file.additions,
        file.deletions,
        is_gone=file.status == "removed",
        is_opaque=file.additions == file.deletions == 0 and file.status not in {"removed", "renamed"},
    )

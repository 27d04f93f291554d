"""Pull requests at Forgejo and Gitea, whose API is the same here: https://codeberg.org/api/swagger.

A draft is a request whose title begins with ``WIP:`` there.
"""

from base64 import b64encode
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from hub.core.pulls import Place
from hub.core.risk import FileChange
from hub.forges.http import Line, Sessions
from hub.forges.shapes import MOST_FILES, ForgeFailed, Seen, Trouble, Wanted
from protocol.pulls import Method

DRAFT: Final = "WIP: "
_PAGE: Final = 50
"""Files on a page: what these servers allow as they come."""
_CONFLICT: Final = 409
_MOST_OPEN: Final = 1_000
"""Open requests among which one is looked for."""


class _Branch(Struct):
    sha: str = ""
    ref: str = ""
    repo_id: int = 0


class _Pull(Struct):
    number: int
    html_url: str
    state: str
    head: _Branch
    base: _Branch
    title: str = ""
    body: str | None = None
    merged: bool = False
    draft: bool = False


class _File(Struct):
    filename: str
    status: str = ""
    previous_filename: str = ""
    additions: int = 0
    deletions: int = 0


class _Repository(Struct):
    default_branch: str


class Forgejo:
    """A repository at a Forgejo or Gitea; see :class:`hub.forges.shapes.Forge`."""

    def __init__(self, sessions: Sessions, place: Place, user: str, password: str) -> None:
        # These servers take a token in the place of the password, as git gives it to them.
        shown = b64encode(f"{user}:{password}".encode()).decode()
        self._line = Line(sessions, place.api, {"Authorization": f"Basic {shown}"}, (password, shown))
        self._repository = ("repos", place.owner, place.name)

    async def default_branch(self) -> str:
        """See :class:`hub.forges.shapes.Forge`."""
        doing = "read the repository"
        answer = await self._line.ask("GET", self._repository, doing)
        found: _Repository = self._line.shaped(answer, doing, _Repository)
        return found.default_branch

    async def find(self, head: str, base: str) -> Seen | None:
        """See :class:`hub.forges.shapes.Forge`."""
        doing = "look for the request"
        try:
            answer = await self._line.ask("GET", (*self._repository, "pulls", base, head), doing)
        except ForgeFailed as exc:
            if exc.trouble is Trouble.MISSING:
                return None  # or there is no such repository: whoever opens one is told
            raise
        seen = _seen(self._line.shaped(answer, doing, _Pull))
        # Of several it tells any one: where that is over, another one may be open.
        return seen if seen.state == "open" else await self._open_one(head, base) or seen

    async def _open_one(self, head: str, base: str) -> Seen | None:
        doing = "look for the open request"
        for page in range(1, _MOST_OPEN // _PAGE + 1):
            query: dict[str, str | int] = {"state": "open", "sort": "recentupdate", "page": page, "limit": _PAGE}
            answer = await self._line.ask("GET", (*self._repository, "pulls"), doing, query=query)
            pulls: list[_Pull] = self._line.shaped(answer, doing, list[_Pull])
            for pull in pulls:
                # The branch of a fork may be called the same.
                if (pull.head.ref, pull.base.ref, pull.head.repo_id) == (head, base, pull.base.repo_id):
                    return _seen(pull)
            if not pulls:
                break
        return None

    async def open(self, wanted: Wanted) -> Seen:
        """See :class:`hub.forges.shapes.Forge`."""
        doing = "open the request"
        body = {"head": wanted.head, "base": wanted.base, "title": DRAFT + wanted.title, "body": wanted.text}
        try:
            answer = await self._line.ask("POST", (*self._repository, "pulls"), doing, body=body)
        except ForgeFailed as exc:
            found = await self.find(wanted.head, wanted.base) if exc.status == _CONFLICT else None
            if found is None or found.state != "open":
                raise
            return found  # somebody was quicker
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
            query = {"page": page, "limit": _PAGE}
            answer = await self._line.ask("GET", (*self._one(number), "files"), doing, query=query)
            files: list[_File] = self._line.shaped(answer, doing, list[_File])
            found += map(_file, files)
            # A server may give fewer at a time than it is asked for, and says whether there are more.
            if not files or answer.headers.get("X-HasMore", "").lower() == "false":
                return found, True
        return found, False

    async def tell(self, seen: Seen, title: str, text: str) -> None:
        """See :class:`hub.forges.shapes.Forge`."""
        body = {"title": f"{DRAFT if seen.is_draft else ''}{title}", "body": text}
        await self._line.ask("PATCH", self._one(seen.number), "describe the request", body=body)

    async def ready(self, seen: Seen, title: str) -> None:
        """See :class:`hub.forges.shapes.Forge`."""
        await self._line.ask("PATCH", self._one(seen.number), "take it out of draft", body={"title": title})

    async def merge(self, number: int, commit: str, method: Method) -> None:
        """See :class:`hub.forges.shapes.Forge`."""
        body = {"Do": method.value, "head_commit_id": commit}
        await self._line.ask("POST", (*self._one(number), "merge"), "merge the request", body=body)

    def _one(self, number: int) -> tuple[str | int, ...]:
        return (*self._repository, "pulls", number)


def _seen(pull: _Pull) -> Seen:
    state = "merged" if pull.merged else pull.state
    is_draft = pull.draft or pull.title.upper().startswith(("WIP:", "[WIP]"))  # older ones do not say it
    head = pull.head.sha if state == "open" else ""  # later it is the newest of the branch, whatever was merged
    return Seen(pull.number, pull.html_url, state, is_draft, head, text=pull.body or "")


def _file(file: _File) -> FileChange:
    return FileChange(
        file.filename,
        file.previous_filename,
        file.additions,
        file.deletions,
        is_gone=file.status == "deleted",
        is_opaque=file.additions == file.deletions == 0 and file.status not in {"deleted", "renamed"},
    )

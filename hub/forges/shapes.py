"""What all forges have in common: what is asked of them, what they answer, and how they fail.

A forge is spoken to by ``forgejo.py`` (Forgejo and Gitea) or ``github.py``. Callers: ``hub/services/pulls.py``.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from hub.core.risk import FileChange
from protocol.errors import AgentComError
from protocol.pulls import Method

MOST_FILES: Final = 1_000
"""Files of a change that are looked at; one of more is never a small one."""


class Trouble(StrEnum):
    """Why a forge did not do what it was asked to."""

    UNREACHABLE = "unreachable"  # no connection, no answer in time, a certificate that is not trusted
    REFUSED = "refused"  # it does not know the credential, or that may not do this
    MISSING = "missing"  # no such repository or branch, or the credential may not see it
    REJECTED = "rejected"  # it understands, and cannot do it
    LIMITED = "limited"  # too many requests
    BROKEN = "broken"  # it fails itself, or says what nobody understands


_WAY_OUT: Final = {
    Trouble.UNREACHABLE: "it is asked again",
    Trouble.REFUSED: "give the project an address with a user and a token that may write pull requests, then retry",
    Trouble.MISSING: "look at the project's address and branch, and at what its credential may see, then retry",
    Trouble.REJECTED: "mend that at the forge, then retry",
    Trouble.LIMITED: "it is asked again later",
    Trouble.BROKEN: "it is asked again",
}


class ForgeFailed(AgentComError):
    """A forge did not do what it was asked to; nothing of it is done by halves.

    ``api`` is its address, ``doing`` what was asked in a word, ``said`` its own words, without any credential;
    ``status`` the HTTP status, 0 without one; ``after_s`` when it wants to be asked again, 0 if it does not say.
    """

    code = "forge_failed"

    def __init__(
        self, trouble: Trouble, api: str, doing: str, said: str, *, status: int = 0, after_s: float = 0.0
    ) -> None:
        self.trouble, self.api, self.doing, self.said = trouble, api, doing, said
        self.status, self.after_s = status, after_s
        super().__init__(trouble, api, doing, said, status)

    @property
    def is_passing(self) -> bool:
        """Whether the same request may go well later, and nobody has to do anything."""
        return self.trouble in {Trouble.UNREACHABLE, Trouble.LIMITED, Trouble.BROKEN}

    def __str__(self) -> str:
        status = f" (HTTP {self.status})" if self.status else ""
        said = f": {self.said}" if self.said else ""
        return f"forge {self.api}: {self.doing}: {self.trouble.value}{status}{said}; {_WAY_OUT[self.trouble]}"


class Seen(NamedTuple):
    """A pull request as its forge tells of it: ``state`` is ``open``, ``merged`` or ``closed``.

    ``head`` is its last commit; empty where the forge does not know that any more.
    """

    number: int
    url: str
    state: str
    is_draft: bool
    head: str
    node: str = ""
    """What GitHub's other API calls it."""
    text: str = ""
    """Its description."""


class Wanted(NamedTuple):
    """A pull request to open: from branch ``head`` into branch ``base``."""

    head: str
    base: str
    title: str
    text: str


class Forge(Protocol):
    """One repository at its forge. Everything raises :class:`ForgeFailed`."""

    async def default_branch(self) -> str:
        """The branch that requests are for, if nobody says another one."""
        ...

    async def find(self, head: str, base: str) -> Seen | None:
        """The request from one branch into another: the open one, else one that is over."""
        ...

    async def open(self, wanted: Wanted) -> Seen:
        """Open a request, as a draft."""
        ...

    async def look(self, number: int) -> Seen:
        """A request as it is now."""
        ...

    async def files(self, number: int) -> tuple[Sequence[FileChange], bool]:
        """What a request changes, at most ``MOST_FILES`` files, and whether these are all of them."""
        ...

    async def tell(self, seen: Seen, title: str, text: str) -> None:
        """Say something else in a request; it stays the draft that it is."""
        ...

    async def ready(self, seen: Seen, title: str) -> None:
        """A draft is one no more."""
        ...

    async def merge(self, number: int, commit: str, method: Method) -> None:
        """Merge a request, if this commit is still its last one."""
        ...

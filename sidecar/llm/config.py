"""What one LLM endpoint is configured to be, checked when it is made.

``sidecar/settings.py`` reads these from environment and file; ``endpoints.py`` makes providers of them. Refuses what
cannot work, all problems at once.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from protocol.errors import BadInput, Problem
from protocol.ids import NAME
from protocol.model import EndpointKind

USUAL_MODELS: Final = {EndpointKind.ANTHROPIC: "claude-sonnet-5-5", EndpointKind.GEMINI: "gemini-2.5-flash"}
"""Who is asked at a hosted service if nobody names a model; these kinds want a key, also behind a proxy here."""
_LEAST_CONTEXT: Final = 512
_MOST_CONTEXT: Final = 4 << 20
_LEAST_STALL_S: Final = 0.1
_MOST_STALL_S: Final = 86_400.0
_HOST: Final = re.compile(r"[^\s\\%<>^`{|}\"]+")


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """One endpoint.

    ``local`` (its tokens cost nothing and stay here) is, when not given, whether the URL names this machine; Claude and
    Gemini are never local by themselves.
    ``num_ctx`` is the context length that an Ollama server is always asked for; 0: by what the work needs.
    ``stall_s`` is how long it may say nothing between two pieces of an answer; loading a model and reading a prompt get
    more, by their size.
    ``guessed``: nobody has named it, it is where such a server usually is; it counts only if what answers there is
    surely one.

    Raises:
        BadInput: something is wrong with it; every problem is listed.
    """

    id: str
    kind: EndpointKind
    url: str
    local: bool | None = None
    api_key: str = field(default="", repr=False)
    default_model: str = ""
    num_ctx: int = 0
    stall_s: float = 120.0
    guessed: bool = False

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise BadInput(problems, f"endpoint {self.id!r}")

    @property
    def is_local(self) -> bool:
        """Whether its tokens cost nothing and stay with us."""
        if self.local is not None:
            return self.local
        return not self.is_hosted and is_loopback(self.url)

    @property
    def is_hosted(self) -> bool:
        """Whether it is a service of somebody else, which answers nobody without a key."""
        return self.kind in USUAL_MODELS


def is_loopback(url: str) -> bool:
    """Whether ``url`` names this very machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _problems(settings: EndpointSettings) -> Iterator[Problem]:
    if not NAME.fullmatch(settings.id):
        yield Problem("id", f"{settings.id[:64]!r} is no name: letters, digits and ._- , at most 64")
    yield from _url_problem(settings.url)
    if settings.num_ctx and not _LEAST_CONTEXT <= settings.num_ctx <= _MOST_CONTEXT:
        yield Problem("num_ctx", f"{settings.num_ctx}; between {_LEAST_CONTEXT} and {_MOST_CONTEXT} tokens, or 0")
    if not _LEAST_STALL_S <= settings.stall_s <= _MOST_STALL_S:
        yield Problem("stall_s", f"{settings.stall_s:g}; between {_LEAST_STALL_S:g} and {_MOST_STALL_S:g} seconds")


def _url_problem(url: str) -> Iterator[Problem]:
    try:
        parts = urlsplit(url)
        port, host, has_credentials = parts.port, parts.hostname or "", "@" in parts.netloc
    except ValueError:
        port, host, has_credentials = 0, "", False
    if has_credentials:
        yield Problem("url", "no user or password in the address, which is shown to many; a key belongs in api_key")
    elif not url.startswith(("http://", "https://")) or not _HOST.fullmatch(host) or port == 0:
        yield Problem("url", f"{url[:100]!r} is no http or https address like http://127.0.0.1:11434")

"""What confined work may ask an LLM endpoint through the sidecar, and with which words.

Pure. Passed on are the calls that answer with text, numbers or a list of models, and no others: keys, files, batches
and settings of an account are nothing that work has to reach. Of the fields of a request and of an answer only those
go on that are listed here. Caller: ``sidecar/llm/passage.py``.
"""

import re
from typing import Final, NamedTuple

from protocol.endpoints import EndpointKind

PORT: Final = 3129
_MODEL: Final = r"/[A-Za-z0-9][A-Za-z0-9._:-]{0,127}"
_CALLS: Final = {
    EndpointKind.ANTHROPIC: re.compile(rf"POST /v1/messages(?:/count_tokens)?|GET /v1/models(?:{_MODEL})?"),
    EndpointKind.OPENAI: re.compile(
        rf"POST /(?:chat/completions|completions|responses|embeddings)|GET /models(?:{_MODEL})?"
    ),
}
_VARIABLES: Final = {EndpointKind.ANTHROPIC: "ANTHROPIC", EndpointKind.OPENAI: "OPENAI"}
_QUERY: Final = re.compile(r"[A-Za-z0-9._~=&%-]{0,1000}")
_ASKED: Final = frozenset({"accept", "anthropic-beta", "anthropic-version", "content-type", "openai-beta"})
_ANSWERED: Final = frozenset(
    {"content-type", "retry-after", "retry-after-ms", "request-id", "x-request-id", "x-should-retry"}
)
_LIMITS: Final = ("anthropic-ratelimit-", "x-ratelimit-")

KINDS: Final = frozenset(_CALLS)
"""Endpoints that can be asked in this way."""


class Asked(NamedTuple):
    """Which endpoint, and what is behind its address."""

    endpoint: str
    rest: str


def asked(target: str) -> Asked:
    """The target of a request, taken apart: ``/ENDPOINT/rest?query``."""
    endpoint, slash, rest = target.removeprefix("/").partition("/")
    return Asked(endpoint, slash + rest)


def may_ask(kind: EndpointKind, method: str, rest: str) -> bool:
    """Whether this call is passed on."""
    path, _, query = rest.partition("?")
    calls = _CALLS.get(kind)
    return calls is not None and bool(calls.fullmatch(f"{method} {path}") and _QUERY.fullmatch(query))


def uses_tokens(method: str, rest: str) -> bool:
    """Whether such a call is billed."""
    return method == "POST" and not rest.partition("?")[0].endswith("/count_tokens")


def token_in(fields: dict[str, str]) -> str:
    """The token that a program shows, in the manner of either kind; names of fields are in small letters."""
    bearer = fields.get("authorization", "")
    return fields.get("x-api-key") or (bearer[7:].strip() if bearer[:7].lower() == "bearer " else "")


def passed_on(fields: dict[str, str]) -> dict[str, str]:
    """Of the fields of a request those that the endpoint gets."""
    return {name: value for name, value in fields.items() if name in _ASKED}


def passed_back(fields: dict[str, str]) -> dict[str, str]:
    """Of the fields of an answer those that the program gets: no address to go to, no cookie."""
    return {name: value for name, value in fields.items() if name in _ANSWERED or name.startswith(_LIMITS)}


def variables(endpoints: list[tuple[str, EndpointKind]], token: str) -> dict[str, str]:
    """How programs learn of it: of each kind the first endpoint, in the variables that its own tools read."""
    found: dict[str, str] = {}
    for name, kind in reversed(endpoints):
        found[f"{_VARIABLES[kind]}_BASE_URL"] = f"http://127.0.0.1:{PORT}/{name}"
        found[f"{_VARIABLES[kind]}_API_KEY"] = token
    return found

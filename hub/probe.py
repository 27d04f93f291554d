"""Ask an LLM endpoint whether it is there and what it has, as the hub can reach it: without a key."""

from typing import Final

import aiohttp

from protocol.endpoints import EndpointKind
from protocol.errors import EndpointBusy, EndpointDown
from protocol.listing import Ask, Facts, Listed, Odd, asked, bounded, headers, listing

TIMEOUT_S: Final = 4.0
OPTIONAL_S: Final = 1.0
_NEEDS_A_KEY: Final = frozenset({401, 403})
_BUSY: Final = frozenset({429, 503, 529})
_known: Final[dict[str, Facts]] = {}
"""Facts of models by digest: what a digest names never changes."""


class _KeyWanted(Exception):
    """It answers, and tells nothing without a key."""


async def probe(kind: EndpointKind, url: str) -> Listed:
    """What the endpoint has; nothing if it only says that it wants a key (the hub has none).

    Raises:
        EndpointDown: it does not answer, or not in its protocol (``EndpointBusy``: it has no time to say what it has).
    """
    try:
        async with aiohttp.ClientSession(trust_env=False, headers=headers(kind, "")) as client:
            return await asked(listing(kind, url, _known), lambda question: _ask(client, kind, question))
    except _KeyWanted:
        return Listed(())
    except Odd as exc:
        raise EndpointDown(url, f"it answers, but not as {kind.value} does: {exc}") from exc
    except TimeoutError as exc:
        raise EndpointDown(url, f"no answer within {TIMEOUT_S:g} s") from exc
    except (aiohttp.ClientError, OSError, UnicodeError) as exc:  # the last: a host that is no name
        raise EndpointDown(url, str(exc) or type(exc).__name__) from exc


async def _ask(client: aiohttp.ClientSession, kind: EndpointKind, question: Ask) -> bytes | None:
    method = "GET" if question.body is None else "POST"
    timeout = aiohttp.ClientTimeout(total=OPTIONAL_S if question.optional else TIMEOUT_S)
    request = client.request(method, question.url, json=question.body, allow_redirects=False, timeout=timeout)
    try:
        async with request as answer:
            if answer.status == 200:  # noqa: PLR2004 - HTTP OK
                return await bounded(answer.content.iter_any())
            if question.optional:
                return None
            if answer.status in _NEEDS_A_KEY:
                raise _KeyWanted
            if answer.status in _BUSY:
                raise EndpointBusy(question.url, f"{question.url} answers {answer.status}: it has no time for us")
            why = f"{question.url} answers {answer.status}, not 200; is it of kind {kind.value}?"
            raise EndpointDown(question.url, why)
    except (TimeoutError, aiohttp.ClientError, OSError, Odd):
        if question.optional:
            return None
        raise

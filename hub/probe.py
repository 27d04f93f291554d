"""Ask an LLM endpoint whether it is there and what it has, as the hub can reach it."""

from typing import Any, Final

import aiohttp
import msgspec

from protocol.errors import EndpointDown
from protocol.model import EndpointKind, ModelReport, Residency

TIMEOUT_S: Final = 5.0
MAX_ANSWER_BYTES: Final = 4 << 20
_PATHS: Final = {
    EndpointKind.OLLAMA: "/api/tags",
    EndpointKind.OPENAI: "/models",
    EndpointKind.ANTHROPIC: "/v1/models",
}
_NEEDS_A_KEY: Final = frozenset({401, 403})


async def probe(kind: EndpointKind, url: str) -> tuple[ModelReport, ...]:
    """Models of the endpoint; none if it only says that it wants a key (the hub has none).

    Raises:
        EndpointDown: it does not answer, or not in its protocol.
    """
    address = url.rstrip("/") + _PATHS[kind]
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as client,
            client.get(address, allow_redirects=False) as answer,
        ):
            if answer.status in _NEEDS_A_KEY:
                return ()
            if answer.status != 200:  # noqa: PLR2004 - HTTP OK
                raise EndpointDown(url, f"{address} answers {answer.status}, not 200; is it of kind {kind.value}?")
            body = bytearray()
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > MAX_ANSWER_BYTES:
                    raise EndpointDown(url, f"{address} answers more than {MAX_ANSWER_BYTES:,} bytes")
    except TimeoutError as exc:
        raise EndpointDown(url, f"no answer within {TIMEOUT_S:g} s") from exc
    except (aiohttp.ClientError, OSError, UnicodeError) as exc:  # the last: a host that is no name
        raise EndpointDown(url, str(exc) or type(exc).__name__) from exc
    return _models(kind, url, bytes(body))


def _models(kind: EndpointKind, url: str, body: bytes) -> tuple[ModelReport, ...]:
    try:
        answer: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
        entries = answer["models"] if kind is EndpointKind.OLLAMA else answer["data"]
        key = "name" if kind is EndpointKind.OLLAMA else "id"
        return tuple(
            ModelReport(name=str(entry[key]), residency=Residency.COLD, size_bytes=_size(entry.get("size")))
            for entry in entries
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError) as exc:
        raise EndpointDown(url, f"it answers, but not as {kind.value} does") from exc


def _size(found: object) -> int | None:
    """A size that every peer can read, or none."""
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 1 << 63 else None

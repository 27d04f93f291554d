"""Ask an LLM endpoint whether it is there and what it has, with the key that its settings hold.

Needs none of the heavy clients: what to ask and how to read it is ``protocol/listing.py``. Caller: ``endpoints.py``.
"""

from typing import TYPE_CHECKING, Final

from protocol.errors import EndpointBusy, EndpointDown, EndpointRefused
from protocol.listing import Ask, Facts, Listed, Odd, asked, bounded, headers, listing
from sidecar.llm.config import EndpointSettings
from sidecar.llm.statuses import retry_after_s

if TYPE_CHECKING:
    import aiohttp  # only its names: it is imported when the first endpoint is looked at

TIMEOUT_S: Final = 3.0
OPTIONAL_S: Final = 1.0
_REFUSED: Final = frozenset({401, 402, 403})
_BUSY: Final = frozenset({429, 503, 529})


async def look(settings: EndpointSettings, known: dict[str, Facts]) -> Listed:
    """What the endpoint has.

    Args:
        known: what earlier looks have learnt of models; grows.
    Raises:
        EndpointDown: it does not answer, or not in its protocol (``EndpointRefused``: it does not take our key;
            ``EndpointBusy``: it has no time for us).
    """
    import aiohttp

    told = headers(settings.kind, settings.api_key)
    try:
        # A proxy from the environment has no business between us and our own machine.
        async with aiohttp.ClientSession(trust_env=not settings.is_local, headers=told) as client:
            questions = listing(settings.kind, settings.url, known)
            return await asked(questions, lambda question: _ask(client, settings, question))
    except Odd as exc:
        why = f"{settings.url} answers, but not as {settings.kind.value} does: {exc}"
        raise EndpointDown(settings.id, why) from exc
    except TimeoutError as exc:
        raise EndpointDown(settings.id, f"{settings.url} does not answer within {TIMEOUT_S:g} s") from exc
    except (aiohttp.ClientError, OSError, UnicodeError) as exc:  # the last: a host that is no name
        raise EndpointDown(settings.id, f"{settings.url}: {exc or type(exc).__name__}") from exc


async def _ask(client: "aiohttp.ClientSession", settings: EndpointSettings, question: Ask) -> bytes | None:
    import aiohttp

    method = "GET" if question.body is None else "POST"
    timeout = aiohttp.ClientTimeout(total=OPTIONAL_S if question.optional else TIMEOUT_S)
    # A redirect would take the key to a place that nobody has named.
    request = client.request(method, question.url, json=question.body, allow_redirects=False, timeout=timeout)
    try:
        async with request as answer:
            if answer.status == 200:  # noqa: PLR2004 - HTTP OK
                return await bounded(answer.content.iter_any())
            if question.optional:
                return None
            short = f"{question.url} answers {answer.status}, not 200"
            if answer.status in _BUSY:
                raise EndpointBusy(settings.id, short, retry_after_s(answer.headers))
            if answer.status in _REFUSED:
                raise EndpointRefused(settings.id, f"{short}; check its API key and account")
            raise EndpointDown(settings.id, f"{short}; is it of kind {settings.kind.value}?")
    except (TimeoutError, aiohttp.ClientError, OSError, Odd):
        if question.optional:
            return None
        raise


async def names(settings: EndpointSettings) -> tuple[str, ...]:
    """The models of the endpoint, to say which there are instead of one that is not; none if it does not answer."""
    try:
        return tuple(model.name for model in (await look(settings, {})).models)
    except EndpointDown:
        return ()

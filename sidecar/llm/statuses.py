"""What the HTTP answers of hosted LLM services mean to us.

Anthropic's and OpenAI's clients are made by one generator and raise errors of one shape; both modules, and the one for
Gemini, translate them here.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from protocol.errors import (
    EndpointBusy,
    EndpointDown,
    EndpointRefused,
    ModelFailed,
    ModelMissing,
    PromptTooLong,
    WorkFailed,
)

_NO_ROOM: Final = re.compile(
    r"context[ _](?:length|size|window)|prompt is too long|input is too long|too many (?:input )?tokens|"
    r"exceeds? the (?:maximum|available) (?:number of )?(?:tokens|context)",
    re.IGNORECASE,
)
"""How servers say that a prompt is too long; none has a status of its own for it."""
_SHOWN_CHARS: Final = 300
_LATER: Final = frozenset({408, 409, 425})
"""Of the statuses that blame the request, those that another try may mend."""


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """How long the server asks us to stay away, in seconds; ``None`` if it does not say.

    Reads ``retry-after-ms`` (milliseconds) first, then ``retry-after`` (seconds or an HTTP date). ``now`` is the time
    that a date is compared with.
    """
    exact = _number(headers.get("retry-after-ms"))
    if exact is not None:
        return max(0.0, exact / 1000)
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None:
        return max(0.0, seconds)
    try:
        moment = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    # "nan" and "inf" are numbers to float(), and no time to wait.
    return number if 0 <= number < float("inf") else None


def translated(endpoint: str, model: str, status: int, headers: Mapping[str, str], text: str) -> WorkFailed:
    """The error that any HTTP ``status`` but 200 stands for; ``text`` is the server's explanation."""
    short = f"HTTP {status}: {_shortened(text)}"
    match status:
        case 429 | 503 | 529:
            return EndpointBusy(endpoint, short, retry_after_s(headers))
        case 401 | 402 | 403:
            return EndpointRefused(endpoint, f"{short}; check its API key and account")
        case 404:
            return ModelMissing(endpoint, model)
        case _ if 400 <= status < 500 and status not in _LATER:  # noqa: PLR2004 - HTTP: our request is at fault
            return _refused(f"endpoint {endpoint}, model {model}: {short}", model, text)
        case _:
            return EndpointDown(endpoint, short)


def _shortened(text: str) -> str:
    """Its whole words of the first 300 characters: half a key, told back by a server, would be masked by nobody."""
    if len(text) <= _SHOWN_CHARS:
        return text
    words = text[:_SHOWN_CHARS].rsplit(maxsplit=1)
    return f"{words[0]} ..." if len(words) > 1 else "..."


def _refused(why: str, model: str, text: str) -> ModelFailed:
    if _NO_ROOM.search(text):
        return PromptTooLong(model, 0, 0, f"{why}; the prompt does not fit: shorten it, or name fewer files")
    return ModelFailed(why)

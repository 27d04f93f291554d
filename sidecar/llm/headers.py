"""What an endpoint is told that we have no key for: the request, and nothing else.

The client libraries look into the environment by themselves and add what they find there (``OLLAMA_API_KEY``,
``OPENAI_ORG_ID``, ``OPENAI_CUSTOM_HEADERS``) to whatever address they are given, also to one that a message from the
hub names. Keys come from the settings alone, so without one :func:`bare` takes off every header that HTTP itself (or
a trace) does not need. Callers: ``ollama.py`` and ``openai_compatible.py``, as a hook on each request, redirected ones
included.
"""

from typing import Any, Final

_NEEDED: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "traceparent",
        "transfer-encoding",
        "user-agent",
    }
)
"""``traceparent`` is ours: it is sent to servers on this machine only, and is no secret."""


async def bare(request: Any) -> None:  # noqa: ANN401 - of httpx or httpx2, which are imported when first used
    """Take off all headers but those that carry the request."""
    for name in [name for name in request.headers if name.lower() not in _NEEDED]:
        del request.headers[name]

"""Send spans on to a collector, by OpenTelemetry's own library: OTLP over HTTP.

The library is an extra (``pip install 'agentcom[otel]'``) and imported here only, when an address is set. It collects
spans and sends them from a thread of its own; what it cannot send soon it drops, so a collector that is away costs
neither time nor memory. What else there is to say to it (headers, certificates) are its own variables,
``OTEL_EXPORTER_OTLP_...``. Callers: ``hub/upkeep.py``, ``sidecar/app.py``.
"""

from threading import Thread
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from protocol.errors import BadInput, Problem
from protocol.traces import Place, Span

PATH: Final = "/v1/traces"
CLOSE_S: Final = 2.0
"""A program that ends waits no longer for a collector; the library itself would go on trying for 20 s."""


class Telemetry(Protocol):
    """Takes spans."""

    def send(self, span: Span) -> None:
        """Take a span; returns at once."""

    def close(self) -> None:
        """Send what is left, for at most :data:`CLOSE_S`; blocks."""


def problem_of(url: str) -> str:
    """Why traces cannot go there; empty: they can, or nothing is to be sent."""
    if not url:
        return ""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return f"not the address of a collector, like http://127.0.0.1:4318: {url[:60]!r}"
    return ""


def telemetry(url: str, *, service: str, version: str, instance: str) -> Telemetry:
    """What sends spans to the collector at ``url``.

    Args:
        url: with a path it is taken as it is; without, as that of a collector.
        service, version, instance: who tells.
    Raises:
        BadInput: the library is not there.
    """
    try:
        return _Otlp(url if urlsplit(url).path.strip("/") else f"{url.rstrip('/')}{PATH}", service, version, instance)
    except ImportError as exc:
        why = f"{exc.name} is not installed: pip install 'agentcom[otel]'"
        raise BadInput([Problem("traces", why)], "settings") from exc


class _Otlp:
    """Spans in OpenTelemetry's own shape, in its own queue."""

    def __init__(self, url: str, service: str, version: str, instance: str) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk import trace as sdk
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._api, self._sdk = trace, sdk
        facts = {"service.name": service, "service.version": version, "service.instance.id": instance}
        self._resource = Resource.create(facts)
        self._scope = InstrumentationScope("agentcom", version)
        self._exporter = OTLPSpanExporter(endpoint=url)
        self._queue = BatchSpanProcessor(self._exporter)

    def send(self, span: Span) -> None:
        """See :class:`Telemetry`."""
        api, code = self._api, self._api.StatusCode
        made = self._sdk.ReadableSpan(
            name=span.name,
            context=self._context(span.place),
            parent=self._context(span.place.beneath(span.parent)) if span.parent else None,
            resource=self._resource,
            attributes=_plain(span.facts),
            events=[self._sdk.Event(note.name, _plain(note.facts), note.at_ns) for note in span.notes],
            kind=api.SpanKind[span.kind.upper()],
            status=api.Status(code.ERROR, span.problem) if span.problem else api.Status(code.OK),
            start_time=span.start_ns,
            end_time=max(span.start_ns, span.end_ns),
            instrumentation_scope=self._scope,
        )
        self._queue.on_end(made)

    def _context(self, place: Place) -> Any:  # noqa: ANN401 - a type of a library that may not be there
        flags = self._api.TraceFlags(self._api.TraceFlags.SAMPLED)
        return self._api.SpanContext(int(place.trace, 16), int(place.span, 16), is_remote=False, trace_flags=flags)

    def close(self) -> None:
        """See :class:`Telemetry`."""
        ending = Thread(target=self._queue.shutdown, name="traces-end", daemon=True)
        ending.start()
        ending.join(CLOSE_S)
        if ending.is_alive():
            # Wakes what waits before a retry; what hangs in a socket ends with the process.
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the library has no types there


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    """Values that a span may have; others as text."""
    usual = (str, bool, int, float, tuple)
    return {name: value if isinstance(value, usual) else str(value) for name, value in facts.items()}

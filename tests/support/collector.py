"""A collector of traces, as OpenTelemetry's protocol has it: takes OTLP over HTTP in protobuf, keeps the spans."""

from collections import defaultdict
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

_GOOD = 200


class Collector:
    """The server; use it as a context, in the loop of the test.

    Attributes:
        spans: all that came, by the service that told them.
        problems: what was wrong with what came.
    """

    def __init__(self) -> None:
        self.spans: dict[str, list[Span]] = defaultdict(list)
        self.problems: list[str] = []
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None, "it was entered"
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        if request.content_type != "application/x-protobuf":
            self.problems.append(f"content type {request.content_type}")
        message = ExportTraceServiceRequest.FromString(await request.read())
        for part in message.resource_spans:
            service = facts(part.resource)["service.name"]
            for scope in part.scope_spans:
                self.spans[service].extend(scope.spans)
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(),
            content_type="application/x-protobuf",
            status=_GOOD,
        )


def facts(holder: Any) -> dict[str, Any]:  # noqa: ANN401 - any message with attributes
    """The attributes of a span, an event or a resource as plain values."""
    return {each.key: _value(each.value) for each in holder.attributes}


def _value(value: Any) -> Any:  # noqa: ANN401 - a union of the protocol
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)

"""The promise of sending traces: a collector that is away keeps nobody from ending."""

import socket
import threading
from collections.abc import Iterator

import pytest

from protocol.telemetry import telemetry
from protocol.traces import Place, Span

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library itself would wait for an hour."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "3600")


@pytest.fixture
def silent() -> Iterator[str]:
    """A collector that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("is_there", [True, False])
def test_a_dead_collector_keeps_no_program_from_ending(silent: str, is_there: bool) -> None:
    sink = telemetry(silent if is_there else "http://127.0.0.1:9", service="x", version="1", instance="a")
    for number in range(1, 1_200):  # more than one batch
        sink.send(Span(place=Place(TRACE, f"{number:016x}"), name="x", start_ns=1, end_ns=2))
    sink.close()

    left = [thread for thread in threading.enumerate() if thread.name.startswith(("Otel", "traces"))]
    assert all(thread.daemon for thread in left), "they would keep the process"

from collections.abc import AsyncIterator

import pytest

from protocol.model import EndpointKind
from sidecar.llm.endpoints import Endpoints, EndpointSettings
from tests.support.ollama_server import OllamaServer


@pytest.fixture
async def ollama() -> AsyncIterator[OllamaServer]:
    server = OllamaServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def endpoints(ollama: OllamaServer) -> AsyncIterator[Endpoints]:
    """The fake server as endpoint ``box``, and one that is dead as ``gone``."""
    endpoints = Endpoints(
        [
            EndpointSettings("box", EndpointKind.OLLAMA, ollama.url, default_model="qwen3:8b"),
            EndpointSettings("gone", EndpointKind.OLLAMA, "http://127.0.0.1:9", default_model="m"),
        ]
    )
    yield endpoints
    await endpoints.close()

from collections.abc import AsyncIterator

import pytest

from tests.support.ollama_server import OllamaServer


@pytest.fixture
async def ollama() -> AsyncIterator[OllamaServer]:
    server = OllamaServer()
    await server.start()
    yield server
    await server.stop()

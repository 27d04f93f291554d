import subprocess
import sys

import pytest
import structlog

from protocol.errors import BadInput, EndpointRefused
from protocol.model import EndpointKind, Residency
from sidecar.llm.config import DEFAULT_CLAUDE_MODEL
from sidecar.llm.endpoints import Endpoints, EndpointSettings
from tests.support.ollama_server import Model, OllamaServer


async def test_what_answers_is_reported_and_what_does_not_is_not(ollama: OllamaServer) -> None:
    ollama.models = [Model("qwen3:8b"), Model("gemma:2b")]
    endpoints = Endpoints(
        [
            EndpointSettings("box", EndpointKind.OLLAMA, ollama.url),
            EndpointSettings("gone", EndpointKind.OLLAMA, "http://127.0.0.1:9"),
            EndpointSettings("claude", EndpointKind.ANTHROPIC, "https://api.anthropic.com", api_key="sk-x"),
            EndpointSettings("keyless", EndpointKind.ANTHROPIC, "https://api.anthropic.com"),
        ]
    )

    box, claude = await endpoints.discover()

    assert (box.id, box.local, box.default_model) == ("box", True, "qwen3:8b")
    assert [model.name for model in box.models] == ["qwen3:8b", "gemma:2b"]
    assert (claude.id, claude.local, claude.default_model) == ("claude", False, DEFAULT_CLAUDE_MODEL)
    assert claude.models[0].residency is Residency.WARM
    await endpoints.close()


async def test_a_change_between_up_and_down_is_logged_once(ollama: OllamaServer) -> None:
    endpoints = Endpoints([EndpointSettings("box", EndpointKind.OLLAMA, ollama.url)])
    with structlog.testing.capture_logs() as logged:
        await endpoints.discover()
        await endpoints.discover()
        await ollama.stop()
        await endpoints.discover()
        await endpoints.discover()

    assert [line["event"] for line in logged] == ["endpoint_up", "endpoint_down"]
    await endpoints.close()


async def test_the_models_of_an_openai_server_are_listed(llmock: object) -> None:
    url = llmock.base_url("openai")  # type: ignore[attr-defined]  # the fixture of the server's own package
    endpoints = Endpoints([EndpointSettings("vllm", EndpointKind.OPENAI, url, default_model="gpt-5")])

    (report,) = await endpoints.discover()

    assert report.models
    assert report.default_model == "gpt-5"
    await endpoints.close()


def test_an_endpoint_that_is_not_known_is_refused_with_those_that_are() -> None:
    endpoints = Endpoints([EndpointSettings("box", EndpointKind.OLLAMA, "http://127.0.0.1:1")])

    with pytest.raises(EndpointRefused, match="endpoint nas: this sidecar has no such endpoint; it has box"):
        endpoints.provider("nas")


def test_two_endpoints_with_one_id_are_refused() -> None:
    one = EndpointSettings("box", EndpointKind.OLLAMA, "http://127.0.0.1:1")

    with pytest.raises(BadInput, match="box: two endpoints have this id"):
        Endpoints([one, one])


async def test_one_endpoint_has_one_provider_until_it_is_closed() -> None:
    endpoints = Endpoints([EndpointSettings("box", EndpointKind.OLLAMA, "http://127.0.0.1:1")])
    first = endpoints.provider("box")

    assert endpoints.provider("box") is first
    await endpoints.close()
    assert endpoints.provider("box") is not first
    await endpoints.close()


def test_no_client_library_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, sidecar.llm.endpoints, sidecar.executors;"
        "print([m for m in ('ollama', 'anthropic', 'openai', 'genai_prices', 'httpx', 'httpx2') if m in sys.modules])"
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"

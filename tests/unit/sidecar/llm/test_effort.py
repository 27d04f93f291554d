"""More effort is asked for in the words of each API; a model that has none is asked at a low temperature."""

from typing import TYPE_CHECKING

import pytest

from protocol.choice import Effort
from protocol.errors import ModelMissing
from protocol.model import EndpointKind
from sidecar.llm.anthropic import AnthropicProvider
from sidecar.llm.base import ChatMessage, ChatRequest
from sidecar.llm.config import EndpointSettings
from sidecar.llm.effort import CAREFUL, answered, ollama
from sidecar.llm.ollama import OllamaProvider
from sidecar.llm.openai_compatible import OpenAIProvider
from tests.support.ollama_server import Model, OllamaServer, Reply

if TYPE_CHECKING:
    from llmock.pytest_plugin import LLMock

HARD = ChatRequest(messages=(ChatMessage("user", "hello"),), effort=Effort.HIGH)


def box(server: OllamaServer, model: str = "qwen3:8b") -> OllamaProvider:
    return OllamaProvider(EndpointSettings("box", EndpointKind.OLLAMA, server.url, default_model=model))


async def test_a_model_that_can_think_is_asked_to(ollama: OllamaServer) -> None:
    ollama.script = [Reply("42", repeat=True)]
    provider = box(ollama)

    await answered(provider, HARD)
    await answered(provider, ChatRequest(messages=HARD.messages))
    await provider.close()

    assert [request.get("think") for request in ollama.requests] == [True, None]


async def test_a_model_that_cannot_think_is_asked_carefully(ollama: OllamaServer) -> None:
    ollama.models, ollama.script = [Model("plain:1b", thinking=False)], [Reply("42", repeat=True)]
    provider = box(ollama, "plain:1b")

    reply = await answered(provider, HARD)
    await provider.close()

    assert reply.text == "42"
    assert [(request.get("think"), request["options"].get("temperature")) for request in ollama.requests] == [
        (None, CAREFUL)
    ]


async def test_another_refusal_is_not_about_effort(ollama: OllamaServer) -> None:
    provider = box(ollama, "absent:1b")

    with pytest.raises(ModelMissing):
        await answered(provider, HARD)
    await provider.close()


async def test_hosted_models_get_their_own_words(llmock: "LLMock") -> None:
    llmock.reply("42", times=None)
    claude = AnthropicProvider(
        EndpointSettings("claude", EndpointKind.ANTHROPIC, llmock.base_url("anthropic"), local=False, api_key="sk-x")
    )
    other = OpenAIProvider(
        EndpointSettings("other", EndpointKind.OPENAI, llmock.base_url("openai"), default_model="gpt-5")
    )

    await answered(claude, HARD)
    await answered(other, HARD)
    await claude.close()
    await other.close()

    sent = [request.body for request in llmock.requests]
    assert sent[0]["output_config"] == {"effort": "max"}
    assert sent[1]["reasoning_effort"] == "high"


def test_one_family_takes_a_level_instead_of_a_yes() -> None:
    assert ollama("gpt-oss:20b") == "high"
    assert ollama("qwen3:8b") is True

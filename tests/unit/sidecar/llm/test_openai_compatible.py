"""Against llmock, a server that nobody of this project wrote."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionChunk
from openai.types.completion_usage import PromptTokensDetails

from protocol.errors import ModelFailed, ModelMissing
from protocol.model import EndpointKind
from sidecar.llm.base import ChatMessage, ChatRequest, ToolSpec
from sidecar.llm.config import EndpointSettings
from sidecar.llm.openai_compatible import OpenAIProvider, _Answer

if TYPE_CHECKING:
    from llmock.pytest_plugin import LLMock

LOOK = ToolSpec("look", "Look at a file.", {"type": "object", "properties": {"path": {"type": "string"}}})
HELLO = ChatRequest(messages=(ChatMessage("user", "hello"),), system="Be brief.", temperature=0.5)


@pytest.fixture
async def provider(llmock: "LLMock") -> AsyncIterator[OpenAIProvider]:
    url = llmock.base_url("openai")
    settings = EndpointSettings("gpt", EndpointKind.OPENAI, url, local=False, api_key="sk-x", default_model="gpt-5")
    provider = OpenAIProvider(settings)
    yield provider
    await provider.close()


@pytest.mark.parametrize("reason, finish", [("stop", "stop"), ("length", "length"), ("eos", "stop")])
def test_every_reason_to_finish_has_its_meaning(provider: OpenAIProvider, reason: str, finish: str) -> None:
    answer = _Answer()
    answer.finish_reason = reason

    assert provider._finish(answer, "m") == finish


def test_a_filtered_answer_is_a_refusal(provider: OpenAIProvider) -> None:
    answer = _Answer()
    answer.finish_reason = "content_filter"

    with pytest.raises(ModelFailed, match="refuses to do this"):
        provider._finish(answer, "m")


async def test_what_the_server_says_it_charged_beats_any_price_list(provider: OpenAIProvider) -> None:
    usage = CompletionUsage.construct(
        prompt_tokens=100,
        completion_tokens=10,
        total_tokens=110,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=40),
        cost=0.0123,
    )
    answer = _Answer()
    answer.take(ChatCompletionChunk.construct(choices=[], usage=usage, model="m"), provider._traffic.begin(HELLO, "m"))

    counted = provider._usage(answer, "openrouter/some-model", 1.0)
    assert (counted.input_tokens, counted.cached_input_tokens, counted.output_tokens) == (100, 40, 10)
    assert counted.cost_usd == 0.0123


@pytest.mark.parametrize(
    "url, name",
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("http://10.0.0.7:8000/v1", "max_tokens"),
        ("https://openai.com.example/v1", "max_tokens"),
    ],
)
async def test_the_limit_has_the_name_that_the_server_knows(url: str, name: str) -> None:
    provider = OpenAIProvider(EndpointSettings("a", EndpointKind.OPENAI, url))

    assert provider._limit_name == name
    await provider.close()


async def test_without_any_model_the_error_names_those_that_are_there(llmock: "LLMock") -> None:
    bare = OpenAIProvider(EndpointSettings("gpt", EndpointKind.OPENAI, llmock.base_url("openai")))
    nobody = OpenAIProvider(EndpointSettings("gpt", EndpointKind.OPENAI, "http://127.0.0.1:9"))

    with pytest.raises(ModelMissing, match="it has "):
        await bare.chat(HELLO)
    with pytest.raises(ModelMissing):
        await nobody.chat(HELLO)
    await bare.close()
    await nobody.close()

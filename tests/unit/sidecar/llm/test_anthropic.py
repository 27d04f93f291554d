"""Against llmock, a server that nobody of this project wrote."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from anthropic.types import Message, MessageDeltaUsage, RawMessageDeltaEvent, RawMessageStartEvent, Usage
from anthropic.types.raw_message_delta_event import Delta

from protocol.errors import ModelFailed
from protocol.model import EndpointKind
from sidecar.llm.anthropic import AnthropicProvider, _Answer
from sidecar.llm.base import ChatMessage, ChatRequest, ToolSpec
from sidecar.llm.config import EndpointSettings
from sidecar.llm.pricing import TokenCounts

if TYPE_CHECKING:
    from llmock.pytest_plugin import LLMock

LOOK = ToolSpec("look", "Look at a file.", {"type": "object", "properties": {"path": {"type": "string"}}})
HELLO = ChatRequest(messages=(ChatMessage("user", "hello"),), system="Be brief.", temperature=0.5)


@pytest.fixture
async def provider(llmock: "LLMock") -> AsyncIterator[AnthropicProvider]:
    url = llmock.base_url("anthropic")
    settings = EndpointSettings("claude", EndpointKind.ANTHROPIC, url, local=False, api_key="sk-x")
    provider = AnthropicProvider(settings)
    yield provider
    await provider.close()


@pytest.mark.parametrize(
    "stop_reason, finish",
    [("stop_sequence", "stop"), ("max_tokens", "length"), ("model_context_window_exceeded", "length")],
)
def test_every_reason_to_stop_has_its_meaning(provider: AnthropicProvider, stop_reason: str, finish: str) -> None:
    answer = _Answer()
    answer.stop_reason, answer.ended = stop_reason, True

    assert provider._finish(answer, "m") == finish


@pytest.mark.parametrize("stop_reason, why", [("refusal", "refuses to do this"), ("pause_turn", "pause_turn")])
def test_a_reason_that_leaves_no_answer_is_a_failure(provider: AnthropicProvider, stop_reason: str, why: str) -> None:
    answer = _Answer()
    answer.stop_reason, answer.ended = stop_reason, True

    with pytest.raises(ModelFailed, match=why):
        provider._finish(answer, "m")


async def test_cached_tokens_count_as_input_although_the_api_leaves_them_out(provider: AnthropicProvider) -> None:
    message = {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": []}
    counts = {"input_tokens": 15, "output_tokens": 1, "cache_read_input_tokens": 24, "cache_creation_input_tokens": 6}
    answer, flow = _Answer(), provider._traffic.begin(HELLO, "m")
    begun = Message.construct(**message, usage=Usage(**counts))
    answer.take(RawMessageStartEvent.construct(type="message_start", message=begun), flow)
    answer.take(
        RawMessageDeltaEvent.construct(
            type="message_delta",
            delta=Delta(stop_reason="end_turn"),
            usage=MessageDeltaUsage(output_tokens=10),
        ),
        flow,
    )

    assert answer.tokens() == TokenCounts(input=45, output=10, cache_read=24, cache_write=6)

"""Against llmock, a server that nobody of this project wrote."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from anthropic.types import Message, MessageDeltaUsage, RawMessageDeltaEvent, RawMessageStartEvent, Usage
from anthropic.types.raw_message_delta_event import Delta

from protocol.errors import BudgetSpent, EndpointBusy, EndpointDown, EndpointRefused, ModelFailed
from protocol.model import EndpointKind
from sidecar.llm.anthropic import AnthropicProvider, _Answer
from sidecar.llm.base import ChatMessage, ChatRequest, ToolCall, ToolSpec
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


async def test_an_answer_comes_whole_with_its_cost(llmock: "LLMock", provider: AnthropicProvider) -> None:
    llmock.reply("Forty-two it is.")

    reply = await provider.chat(HELLO)

    assert reply.text == "Forty-two it is."
    assert reply.finish == "stop"
    assert reply.usage.model == "claude-sonnet-5-5"
    assert reply.usage.endpoint == "claude"
    assert reply.usage.input_tokens > 0
    assert reply.usage.output_tokens > 0
    assert reply.usage.cost_usd is not None
    assert reply.usage.cost_usd > 0
    llmock.assert_resilient(strict=True)


async def test_a_tool_call_comes_with_its_arguments_and_its_result_goes_back(
    llmock: "LLMock", provider: AnthropicProvider
) -> None:
    llmock.call_tool("look", {"path": "a.py"})
    first = await provider.chat(ChatRequest(messages=HELLO.messages, tools=(LOOK,)))
    (call,) = first.tool_calls
    turns = (
        *HELLO.messages,
        ChatMessage("assistant", "I look.", (call, ToolCall("toolu_2", "look", {"path": "b.py"}))),
        ChatMessage("tool", "nothing", call_id=call.id, tool="look"),
        ChatMessage("tool", "more", call_id="toolu_2", tool="look"),
    )

    second = await provider.chat(ChatRequest(messages=turns, tools=(LOOK,)))

    assert first.finish == "tool_calls"
    assert (call.name, call.arguments, call.problem) == ("look", {"path": "a.py"}, "")
    assert second.finish == "stop"
    assert second.text


async def test_arguments_that_are_no_json_are_told_to_the_caller(llmock: "LLMock", provider: AnthropicProvider) -> None:
    llmock.call_tool("look", {"path": "a.py"}).break_tool_call("malformed_arguments")

    (call,) = (await provider.chat(ChatRequest(messages=HELLO.messages, tools=(LOOK,)))).tool_calls

    assert call.arguments == {}
    assert "not valid JSON" in call.problem


@pytest.mark.parametrize("status", [429, 529, 503])
async def test_a_busy_api_is_asked_again_when_it_says(
    llmock: "LLMock", provider: AnthropicProvider, status: int
) -> None:
    llmock.fail(status, retry_after=0.1, times=2).reply("at last")

    assert (await provider.chat(HELLO)).text == "at last"
    assert len(llmock.requests) == 3
    llmock.assert_resilient()


@pytest.mark.parametrize("status", [429, 529])
async def test_a_wait_that_is_too_long_goes_back_to_the_queue_with_its_length(
    llmock: "LLMock", provider: AnthropicProvider, status: int
) -> None:
    llmock.fail(status, retry_after=60)

    with pytest.raises(EndpointBusy) as caught:
        await provider.chat(HELLO)

    assert caught.value.retry_after_s == 60
    assert len(llmock.requests) == 1


async def test_a_stream_that_ends_early_is_never_taken_for_an_answer(
    llmock: "LLMock", provider: AnthropicProvider
) -> None:
    llmock.reply("a long answer that never ends " * 5, times=None).truncate(after_chunks=3, times=None)

    with pytest.raises(EndpointDown, match="the answer ended before it was done"):
        await provider.chat(HELLO)


@pytest.mark.parametrize("fault", ["truncate", "disconnect", "corrupt"])
async def test_one_broken_stream_heals(llmock: "LLMock", provider: AnthropicProvider, fault: str) -> None:
    llmock.reply("a long answer that does end " * 5, times=None)
    getattr(llmock, fault)(after_chunks=3)

    assert (await provider.chat(HELLO)).text == "a long answer that does end " * 5
    llmock.assert_resilient()


async def test_a_wrong_key_is_not_tried_twice(llmock: "LLMock", provider: AnthropicProvider) -> None:
    llmock.fail(401, times=None)

    with pytest.raises(EndpointRefused, match="check its API key"):
        await provider.chat(HELLO)

    llmock.assert_resilient(strict=True)


async def test_a_request_that_is_refused_is_not_tried_twice(llmock: "LLMock", provider: AnthropicProvider) -> None:
    llmock.context_overflow(times=None)

    with pytest.raises(ModelFailed, match="maximum context length"):
        await provider.chat(HELLO)

    llmock.assert_resilient(strict=True)


async def test_a_stall_ends_with_the_time_that_is_left(llmock: "LLMock", provider: AnthropicProvider) -> None:
    llmock.reply("some words and then nothing more " * 3).stall(seconds=3, after_chunks=2)

    with pytest.raises(BudgetSpent):
        await provider.chat(ChatRequest(messages=HELLO.messages, timeout_s=0.3))


async def test_nobody_at_the_address_is_an_endpoint_that_is_down() -> None:
    provider = AnthropicProvider(EndpointSettings("c", EndpointKind.ANTHROPIC, "http://127.0.0.1:9", api_key="k"))

    with pytest.raises(EndpointDown, match="endpoint c: "):
        await provider.chat(HELLO)

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

"""What every hosted service has in common, against llmock, a server that nobody of this project wrote."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from protocol.errors import BudgetSpent, EndpointBusy, EndpointDown, EndpointRefused, ModelFailed
from protocol.model import EndpointKind, FailureClass
from sidecar.errors import failure_of
from sidecar.llm.base import TRIES, ChatMessage, ChatRequest, Provider, ToolCall, ToolSpec
from sidecar.llm.config import EndpointSettings
from sidecar.llm.endpoints import Endpoints

if TYPE_CHECKING:
    from llmock.pytest_plugin import LLMock

ANTHROPIC, OPENAI, GEMINI = EndpointKind.ANTHROPIC, EndpointKind.OPENAI, EndpointKind.GEMINI
MODELS = {ANTHROPIC: "claude-sonnet-5-5", OPENAI: "gpt-5", GEMINI: "gemini-2.5-flash"}
LOOK = ToolSpec("look", "Look at a file.", {"type": "object", "properties": {"path": {"type": "string"}}})
HELLO = ChatRequest(messages=(ChatMessage("user", "hello"),), system="Be brief.", temperature=0.5)


@pytest.fixture(params=[ANTHROPIC, OPENAI, GEMINI])
def kind(request: pytest.FixtureRequest) -> EndpointKind:
    found: EndpointKind = request.param
    return found


def settings(kind: EndpointKind, url: str) -> EndpointSettings:
    return EndpointSettings("it", kind, url, local=False, api_key="sk-x", default_model=MODELS[kind])


@pytest.fixture
async def provider(llmock: "LLMock", kind: EndpointKind) -> AsyncIterator[Provider]:
    url = llmock.base_url(kind.value) + ("/v1beta" if kind is GEMINI else "")
    endpoints = Endpoints([settings(kind, url)])
    yield endpoints.provider("it")
    await endpoints.close()


async def test_an_answer_comes_whole_with_its_counts_and_its_cost(
    llmock: "LLMock", provider: Provider, kind: EndpointKind
) -> None:
    llmock.reply("Forty-two it is.")

    reply = await provider.chat(HELLO)

    assert reply.text == "Forty-two it is."
    assert reply.finish == "stop"
    assert (reply.usage.model, reply.usage.endpoint) == (MODELS[kind], "it")
    assert reply.usage.input_tokens > 0
    assert reply.usage.output_tokens > 0
    if kind is OPENAI:
        assert reply.usage.cost_usd is None  # a server that no price list knows
    else:
        assert reply.usage.cost_usd is not None
        assert reply.usage.cost_usd > 0
    llmock.assert_resilient(strict=True)


async def test_a_tool_call_comes_with_its_arguments_and_its_result_goes_back(
    llmock: "LLMock", provider: Provider
) -> None:
    llmock.call_tool("look", {"path": "a.py"})
    first = await provider.chat(ChatRequest(messages=HELLO.messages, tools=(LOOK,)))
    (call,) = first.tool_calls
    turns = (
        *HELLO.messages,
        ChatMessage("assistant", "I look.", (call, ToolCall("call_2", "look", {"path": "b.py"}))),
        ChatMessage("tool", "nothing", call_id=call.id, tool="look"),
        ChatMessage("tool", "more", call_id="call_2", tool="look"),
    )

    second = await provider.chat(ChatRequest(messages=turns, tools=(LOOK,)))

    assert first.finish == "tool_calls"
    assert (call.name, call.arguments, call.problem) == ("look", {"path": "a.py"}, "")
    assert second.finish == "stop"
    assert second.text


@pytest.mark.parametrize("kind", [ANTHROPIC, OPENAI])  # the third has no text that could be broken
async def test_arguments_that_are_no_json_are_told_to_the_caller(llmock: "LLMock", provider: Provider) -> None:
    llmock.call_tool("look", {"path": "a.py"}).break_tool_call("malformed_arguments")

    (call,) = (await provider.chat(ChatRequest(messages=HELLO.messages, tools=(LOOK,)))).tool_calls

    assert call.arguments == {}
    assert "not valid JSON" in call.problem


@pytest.mark.parametrize("status", [429, 500, 503, 529])
async def test_a_busy_api_is_asked_again_when_it_says(llmock: "LLMock", provider: Provider, status: int) -> None:
    llmock.fail(status, retry_after=0.1, times=2).reply("at last")

    assert (await provider.chat(HELLO)).text == "at last"
    assert len(llmock.requests) == 3
    llmock.assert_resilient()


@pytest.mark.parametrize("status", [429, 503, 529])
async def test_a_wait_that_is_too_long_goes_back_to_the_queue_with_its_length(
    llmock: "LLMock", provider: Provider, status: int
) -> None:
    llmock.fail(status, retry_after=60)

    with pytest.raises(EndpointBusy) as caught:
        await provider.chat(HELLO)

    assert caught.value.retry_after_s == 60
    assert len(llmock.requests) == 1


async def test_a_stream_that_ends_early_is_never_taken_for_an_answer(llmock: "LLMock", provider: Provider) -> None:
    llmock.reply("a long answer that never ends " * 5, times=None).truncate(after_chunks=3, times=None)

    with pytest.raises(EndpointDown, match="the answer ended before it was done"):
        await provider.chat(HELLO)


@pytest.mark.parametrize("fault", ["disconnect", "corrupt"])
async def test_a_stream_that_breaks_off_every_time_is_never_taken_for_an_answer(
    llmock: "LLMock", provider: Provider, fault: str
) -> None:
    llmock.reply("a long answer whose socket is cut " * 5, times=None)
    getattr(llmock, fault)(after_chunks=3, times=None)

    with pytest.raises(EndpointDown, match="endpoint it: ") as caught:
        await provider.chat(HELLO)

    assert failure_of(caught.value) is FailureClass.QUOTA
    assert len(llmock.requests) == TRIES


@pytest.mark.parametrize("status", [429, 529])
async def test_an_api_that_stays_busy_is_no_fault_of_the_work(
    llmock: "LLMock", provider: Provider, status: int
) -> None:
    llmock.fail(status, retry_after=0.1, times=None)

    with pytest.raises(EndpointBusy, match=f"HTTP {status}: ") as caught:
        await provider.chat(HELLO)

    assert failure_of(caught.value) is FailureClass.QUOTA
    assert len(llmock.requests) == TRIES


@pytest.mark.parametrize("fault", ["truncate", "disconnect", "corrupt"])
async def test_one_broken_stream_heals(llmock: "LLMock", provider: Provider, fault: str) -> None:
    llmock.reply("a long answer that does end " * 5, times=None)
    getattr(llmock, fault)(after_chunks=3)

    assert (await provider.chat(HELLO)).text == "a long answer that does end " * 5
    llmock.assert_resilient()


async def test_a_wrong_key_is_not_tried_twice(llmock: "LLMock", provider: Provider) -> None:
    llmock.fail(401, times=None)

    with pytest.raises(EndpointRefused, match="check its API key"):
        await provider.chat(HELLO)

    llmock.assert_resilient(strict=True)


async def test_a_request_that_is_refused_is_not_tried_twice(llmock: "LLMock", provider: Provider) -> None:
    llmock.context_overflow(times=None)

    with pytest.raises(ModelFailed, match="maximum context length"):
        await provider.chat(HELLO)

    llmock.assert_resilient(strict=True)


async def test_a_stall_ends_with_the_time_that_is_left(llmock: "LLMock", provider: Provider) -> None:
    llmock.reply("some words and then nothing more " * 3).stall(seconds=3, after_chunks=2)

    with pytest.raises(BudgetSpent):
        await provider.chat(ChatRequest(messages=HELLO.messages, timeout_s=0.3))


async def test_nobody_at_the_address_is_an_endpoint_that_is_down(kind: EndpointKind) -> None:
    endpoints = Endpoints([settings(kind, "http://127.0.0.1:9")])

    with pytest.raises(EndpointDown, match="endpoint it: "):
        await endpoints.provider("it").chat(HELLO)

    await endpoints.close()

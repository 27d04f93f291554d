"""Against llmock, a server that nobody of this project wrote."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from openai.types import CompletionUsage, Model
from openai.types.chat import ChatCompletionChunk
from openai.types.completion_usage import PromptTokensDetails

from protocol.errors import BudgetSpent, EndpointBusy, EndpointDown, EndpointRefused, ModelFailed, ModelMissing
from protocol.model import EndpointKind, Residency
from sidecar.llm.base import ChatMessage, ChatRequest, ToolCall, ToolSpec
from sidecar.llm.config import EndpointSettings
from sidecar.llm.openai_compatible import OpenAIProvider, _Answer, _residency

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


async def test_an_answer_comes_whole_with_its_counts(llmock: "LLMock", provider: OpenAIProvider) -> None:
    llmock.reply("Forty-two it is.")

    reply = await provider.chat(HELLO)

    assert reply.text == "Forty-two it is."
    assert reply.finish == "stop"
    assert reply.usage.model == "gpt-5"
    assert reply.usage.endpoint == "gpt"
    assert reply.usage.input_tokens > 0
    assert reply.usage.output_tokens > 0
    assert reply.usage.cost_usd is None  # a server that no price list knows
    llmock.assert_resilient(strict=True)


async def test_a_tool_call_comes_with_its_arguments_and_its_result_goes_back(
    llmock: "LLMock", provider: OpenAIProvider
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


async def test_arguments_that_are_no_json_are_told_to_the_caller(llmock: "LLMock", provider: OpenAIProvider) -> None:
    llmock.call_tool("look", {"path": "a.py"}).break_tool_call("malformed_arguments")

    (call,) = (await provider.chat(ChatRequest(messages=HELLO.messages, tools=(LOOK,)))).tool_calls

    assert call.arguments == {}
    assert "not valid JSON" in call.problem


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_api_is_asked_again_when_it_says(llmock: "LLMock", provider: OpenAIProvider, status: int) -> None:
    llmock.fail(status, retry_after=0.1, times=2).reply("at last")

    assert (await provider.chat(HELLO)).text == "at last"
    assert len(llmock.requests) == 3
    llmock.assert_resilient()


@pytest.mark.parametrize("status", [429, 503])
async def test_a_wait_that_is_too_long_goes_back_to_the_queue_with_its_length(
    llmock: "LLMock", provider: OpenAIProvider, status: int
) -> None:
    llmock.fail(status, retry_after=60)

    with pytest.raises(EndpointBusy) as caught:
        await provider.chat(HELLO)

    assert caught.value.retry_after_s == 60
    assert len(llmock.requests) == 1


async def test_a_stream_that_ends_early_is_never_taken_for_an_answer(
    llmock: "LLMock", provider: OpenAIProvider
) -> None:
    llmock.reply("a long answer that never ends " * 5, times=None).truncate(after_chunks=3, times=None)

    with pytest.raises(EndpointDown, match="the answer ended before it was done"):
        await provider.chat(HELLO)


@pytest.mark.parametrize("fault", ["truncate", "disconnect", "corrupt"])
async def test_one_broken_stream_heals(llmock: "LLMock", provider: OpenAIProvider, fault: str) -> None:
    llmock.reply("a long answer that does end " * 5, times=None)
    getattr(llmock, fault)(after_chunks=3)

    assert (await provider.chat(HELLO)).text == "a long answer that does end " * 5
    llmock.assert_resilient()


async def test_a_wrong_key_is_not_tried_twice(llmock: "LLMock", provider: OpenAIProvider) -> None:
    llmock.fail(401, times=None)

    with pytest.raises(EndpointRefused, match="check its API key"):
        await provider.chat(HELLO)

    llmock.assert_resilient(strict=True)


async def test_a_request_that_is_refused_is_not_tried_twice(llmock: "LLMock", provider: OpenAIProvider) -> None:
    llmock.context_overflow(times=None)

    with pytest.raises(ModelFailed, match="maximum context length"):
        await provider.chat(HELLO)

    llmock.assert_resilient(strict=True)


async def test_a_stall_ends_with_the_time_that_is_left(llmock: "LLMock", provider: OpenAIProvider) -> None:
    llmock.reply("some words and then nothing more " * 3).stall(seconds=3, after_chunks=2)

    with pytest.raises(BudgetSpent):
        await provider.chat(ChatRequest(messages=HELLO.messages, timeout_s=0.3))


async def test_nobody_at_the_address_is_an_endpoint_that_is_down() -> None:
    provider = OpenAIProvider(EndpointSettings("c", EndpointKind.OPENAI, "http://127.0.0.1:9", default_model="m"))

    with pytest.raises(EndpointDown, match="endpoint c: "):
        await provider.chat(HELLO)

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


@pytest.mark.parametrize(
    "more, residency",
    [
        ({}, Residency.WARM),
        ({"status": {"value": "loaded"}}, Residency.WARM),
        ({"status": {"value": "loading"}}, Residency.LOADING),
        ({"status": {"value": "unloaded"}}, Residency.COLD),
        ({"status": "odd"}, Residency.WARM),
    ],
)
def test_a_server_that_loads_on_demand_says_which_models_are_loaded(
    more: dict[str, object], residency: Residency
) -> None:
    assert _residency(Model.construct(id="m", **more)) is residency


async def test_without_any_model_the_error_names_those_that_are_there(llmock: "LLMock") -> None:
    bare = OpenAIProvider(EndpointSettings("gpt", EndpointKind.OPENAI, llmock.base_url("openai")))

    with pytest.raises(ModelMissing, match="it has "):
        await bare.chat(HELLO)
    llmock.fail(401, times=None)
    with pytest.raises(EndpointRefused):
        await bare.models()
    await bare.close()


async def test_nobody_there_lists_no_models() -> None:
    provider = OpenAIProvider(EndpointSettings("c", EndpointKind.OPENAI, "http://127.0.0.1:9"))

    with pytest.raises(EndpointDown):
        await provider.models()
    await provider.close()

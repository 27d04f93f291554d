import asyncio
from collections.abc import AsyncIterator

import pytest

from protocol.errors import (
    BudgetSpent,
    EndpointBusy,
    EndpointDown,
    ModelFailed,
    ModelMissing,
    PromptTooLong,
    ToolsUnsupported,
)
from protocol.model import EndpointKind, Residency
from sidecar.llm.base import ChatMessage, ChatRequest, ToolCall, ToolSpec
from sidecar.llm.config import EndpointSettings
from sidecar.llm.ollama import OllamaProvider
from tests.support.ollama_server import Model, OllamaServer, Reply

LOOK = ToolSpec("look", "Look at a file.", {"type": "object", "properties": {"path": {"type": "string"}}})


@pytest.fixture
async def provider(ollama: OllamaServer) -> AsyncIterator[OllamaProvider]:
    provider = OllamaProvider(EndpointSettings("box", EndpointKind.OLLAMA, ollama.url, default_model="qwen3:8b"))
    yield provider
    await provider.close()


def ask(text: str = "hello", **more: object) -> ChatRequest:
    return ChatRequest(messages=(ChatMessage("user", text),), **more)  # type: ignore[arg-type]  # a table of fields


async def test_an_answer_comes_whole_with_its_counts(ollama: OllamaServer, provider: OllamaProvider) -> None:
    ollama.script = [Reply("The answer is forty-two, as everybody knows.")]

    reply = await provider.chat(ask(system="Be brief."))

    assert reply.text == "The answer is forty-two, as everybody knows."
    assert reply.finish == "stop"
    assert reply.usage.model == "qwen3:8b"
    assert reply.usage.endpoint == "box"
    assert reply.usage.input_tokens > 0
    assert reply.usage.output_tokens > 0
    assert reply.usage.cost_usd == 0.0
    assert ollama.requests[0]["messages"][0] == {"role": "system", "content": "Be brief."}


async def test_the_context_length_is_always_sent_and_always_the_same(
    ollama: OllamaServer, provider: OllamaProvider
) -> None:
    ollama.script = [Reply("one"), Reply("two")]
    await provider.chat(ask())
    await provider.chat(ask("longer " * 500, max_output_tokens=50, temperature=0.1))

    first, second = (request["options"] for request in ollama.requests)
    assert first == {"num_ctx": 8192, "num_predict": 4096}
    assert second == {"num_ctx": 8192, "num_predict": 50, "temperature": 0.1}


async def test_tool_calls_and_their_results_go_both_ways(ollama: OllamaServer, provider: OllamaProvider) -> None:
    ollama.script = [Reply(tool_calls=(("look", {"path": "a.py"}), ("look", {"path": "b.py"})))]
    before = (
        ChatMessage("user", "go"),
        ChatMessage("assistant", "", (ToolCall("c1", "look", {"path": "x"}),)),
        ChatMessage("tool", "nothing", call_id="c1", tool="look"),
    )

    reply = await provider.chat(ChatRequest(messages=before, tools=(LOOK,)))

    assert reply.finish == "tool_calls"
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [
        ("look", {"path": "a.py"}),
        ("look", {"path": "b.py"}),
    ]
    sent = ollama.requests[0]["messages"]
    assert sent[1]["tool_calls"][0]["function"] == {"name": "look", "arguments": {"path": "x"}}
    assert sent[2]["role"] == "tool"
    assert sent[2]["tool_name"] == "look"
    assert ollama.requests[0]["tools"][0]["function"]["parameters"]["properties"]["path"]["type"] == "string"


async def test_an_answer_that_hits_its_limit_says_so(ollama: OllamaServer, provider: OllamaProvider) -> None:
    ollama.script = [Reply("and so on and", done_reason="length")]

    assert (await provider.chat(ask())).finish == "length"


async def test_an_answer_that_is_no_answer_is_a_failure(ollama: OllamaServer, provider: OllamaProvider) -> None:
    ollama.script = [Reply("", done_reason="load")]

    with pytest.raises(ModelFailed, match="gave no answer: load"):
        await provider.chat(ask())


async def test_a_model_that_is_not_there_is_named_with_those_that_are(
    ollama: OllamaServer, provider: OllamaProvider
) -> None:
    with pytest.raises(ModelMissing, match=r"endpoint box has no model 'nope'; it has qwen3:8b"):
        await provider.chat(ask(model="nope"))


async def test_without_any_model_the_error_names_those_that_are_there(ollama: OllamaServer) -> None:
    bare = OllamaProvider(EndpointSettings("box", EndpointKind.OLLAMA, ollama.url))

    with pytest.raises(ModelMissing, match="it has qwen3:8b"):
        await bare.chat(ask())

    await bare.close()


async def test_a_prompt_that_does_not_fit_is_refused_before_it_is_sent(
    ollama: OllamaServer, provider: OllamaProvider
) -> None:
    with pytest.raises(PromptTooLong, match="8192 tokens of context of qwen3:8b; shorten it"):
        await provider.chat(ask("word " * 8000))

    assert ollama.requests == []


async def test_a_caller_that_needs_more_context_than_there_is_is_refused(provider: OllamaProvider) -> None:
    with pytest.raises(PromptTooLong):
        await provider.chat(ask("short", context_tokens=8193))


async def test_a_prompt_that_the_server_cut_in_silence_is_a_failure(
    ollama: OllamaServer, provider: OllamaProvider
) -> None:
    ollama.models = [Model("tiny:latest", context_tokens=1024)]
    ollama.script = [Reply("nice story")]

    with pytest.raises(PromptTooLong, match="1024 tokens of context of tiny"):
        await provider.chat(ask("word " * 4000, model="tiny"))


async def test_a_model_without_tools_is_told_apart(ollama: OllamaServer, provider: OllamaProvider) -> None:
    ollama.models = [Model("plain:latest", tools=False)]

    with pytest.raises(ToolsUnsupported, match="model plain does not support tools"):
        await provider.chat(ask(model="plain", tools=(LOOK,)))


async def test_an_answer_that_breaks_off_is_asked_for_again(ollama: OllamaServer, provider: OllamaProvider) -> None:
    midway = "an error was encountered while running the model: unexpected EOF"
    ollama.script = [Reply("half of it is", fail_midway=midway), Reply("whole")]

    assert (await provider.chat(ask())).text == "whole"
    assert len(ollama.requests) == 2


async def test_an_answer_that_just_ends_is_never_taken_for_whole(
    ollama: OllamaServer, provider: OllamaProvider
) -> None:
    ollama.script = [Reply("this is only the first half", drop_midway=True, repeat=True)]

    with pytest.raises(EndpointDown, match="the answer ended before it was done"):
        await provider.chat(ask())

    assert len(ollama.requests) == 3


async def test_a_server_that_stays_busy_is_a_quota_failure(ollama: OllamaServer, provider: OllamaProvider) -> None:
    busy = "server busy, please try again.  maximum pending requests exceeded"
    ollama.script = [Reply(status=503, error=busy, repeat=True)]

    with pytest.raises(EndpointBusy, match="maximum pending requests"):
        await provider.chat(ask())


async def test_a_server_that_breaks_is_down(ollama: OllamaServer, provider: OllamaProvider) -> None:
    ollama.script = [Reply(status=500, error="llama runner process has terminated", repeat=True)]

    with pytest.raises(EndpointDown, match="HTTP 500: llama runner process has terminated"):
        await provider.chat(ask())


async def test_a_request_that_the_server_refuses_is_not_repeated(
    ollama: OllamaServer, provider: OllamaProvider
) -> None:
    ollama.script = [Reply(status=400, error="invalid image")]

    with pytest.raises(ModelFailed, match="invalid image"):
        await provider.chat(ask())

    assert len(ollama.requests) == 1


async def test_nobody_at_the_address_is_an_endpoint_that_is_down(ollama: OllamaServer) -> None:
    await ollama.stop()
    provider = OllamaProvider(EndpointSettings("box", EndpointKind.OLLAMA, ollama.url, default_model="m"))

    with pytest.raises(EndpointDown, match="endpoint box: "):
        await provider.models()
    with pytest.raises(EndpointDown):
        await provider.chat(ask())

    await provider.close()


async def test_time_that_runs_out_is_a_spent_budget_and_hangs_up(
    ollama: OllamaServer, provider: OllamaProvider
) -> None:
    ollama.script = [Reply("first a word, then silence", hold=asyncio.Event())]

    with pytest.raises(BudgetSpent, match="seconds for one model answer"):
        await provider.chat(ask(timeout_s=0.3))

    await until_hung_up(ollama)


async def test_cancelling_hangs_up(ollama: OllamaServer, provider: OllamaProvider) -> None:
    ollama.script = [Reply("first a word, then silence", hold=asyncio.Event())]
    asking = asyncio.create_task(provider.chat(ask()))
    async with asyncio.timeout(5):
        await ollama.until(lambda: bool(ollama.requests))
    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking
    await until_hung_up(ollama)


async def until_hung_up(ollama: OllamaServer) -> None:
    async with asyncio.timeout(5):
        await ollama.until(lambda: ollama.hung_up > 0)


async def test_models_in_memory_are_warm_and_cloud_models_left_out(
    ollama: OllamaServer, provider: OllamaProvider
) -> None:
    ollama.models = [Model("qwen3:8b"), Model("gemma:2b"), Model("gpt-oss:120b-cloud")]
    ollama.script = [Reply("hi")]
    await provider.chat(ask())

    warm, cold = await provider.models()

    assert (warm.name, warm.residency, warm.context) == ("qwen3:8b", Residency.WARM, 8192)
    assert warm.size_bytes == 5_200_000_000
    assert warm.vram_bytes == 5_200_000_000 + 8192 * Model("any").kv_bytes_per_token
    assert (cold.name, cold.residency, cold.vram_bytes) == ("gemma:2b", Residency.COLD, None)

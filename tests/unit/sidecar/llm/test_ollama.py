import asyncio
from collections.abc import AsyncIterator

import pytest

from protocol.errors import (
    BudgetSpent,
    EndpointDown,
    ModelFailed,
    ModelMissing,
    PromptTooLong,
    ToolsUnsupported,
)
from protocol.loads import Answering, AnswerPhase
from protocol.model import EndpointKind, FailureClass
from sidecar.errors import AnswerEndless, EndpointStalled, PromptCut, ServerFull, failure_of
from sidecar.llm.base import FIRST_FULL_WAIT_S, ChatMessage, ChatRequest, ToolCall, ToolSpec
from sidecar.llm.config import EndpointSettings
from sidecar.llm.ollama import OllamaProvider
from tests.support.ollama_memory import BUSY
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


async def test_the_context_length_is_always_sent_and_stays_while_it_will_do(
    ollama: OllamaServer, provider: OllamaProvider
) -> None:
    ollama.script = [Reply("word", repeat=True)]
    await provider.chat(ask())
    await provider.chat(ask("longer " * 500, max_output_tokens=50, temperature=0.1))
    await provider.chat(ask("longer " * 5_000))
    await provider.chat(ask())

    first, second, third, fourth = (request["options"] for request in ollama.requests)
    assert first == {"num_ctx": 8192, "num_predict": 4096}
    assert second == {"num_ctx": 8192, "num_predict": 50, "temperature": 0.1}
    assert third["num_ctx"] == fourth["num_ctx"] == 16_384
    assert len(ollama.memory.loads) == 2  # one more for the long prompt, none to go back


async def test_a_conversation_that_will_grow_is_given_its_room_at_once(
    ollama: OllamaServer, provider: OllamaProvider
) -> None:
    ollama.script = [Reply("word", repeat=True)]
    await provider.chat(ask(context_tokens=16_384))
    await provider.chat(ask("longer " * 3_000, context_tokens=16_384))

    assert [request["options"]["num_ctx"] for request in ollama.requests] == [16_384, 16_384]


async def test_a_context_that_somebody_else_has_loaded_is_used_as_it_is(
    ollama: OllamaServer, provider: OllamaProvider
) -> None:
    ollama.script = [Reply("theirs"), Reply("ours")]
    theirs = OllamaProvider(
        EndpointSettings("them", EndpointKind.OLLAMA, ollama.url, default_model="qwen3:8b", num_ctx=20_000)
    )
    await theirs.chat(ask())
    await provider.chat(ask())
    await theirs.close()

    assert [request["options"]["num_ctx"] for request in ollama.requests] == [20_000, 20_000]


async def test_the_hub_says_how_long_a_model_stays_and_which_goes_before(
    ollama: OllamaServer, provider: OllamaProvider
) -> None:
    ollama.models = [Model("qwen3:8b"), Model("old:1b")]
    ollama.script = [Reply("word", repeat=True)]
    await provider.chat(ask(model="old:1b"))
    await provider.chat(ask(keep_alive_s=42.5, unload=("old:1b", "qwen3:8b", "nobody:1b")))

    assert [request["keep_alive"] for request in ollama.requests] == ["5m", 42.5]
    assert [resident.model.name for resident in ollama.memory.look()] == ["qwen3:8b"]


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
    with pytest.raises(PromptTooLong, match="32768 tokens of context of qwen3:8b; shorten it"):
        await provider.chat(ask("word " * 30_000))

    assert ollama.requests == []


async def test_a_wish_for_more_context_than_the_model_can_is_cut_to_what_it_can(
    ollama: OllamaServer, provider: OllamaProvider
) -> None:
    ollama.models = [Model("tiny:latest", context_tokens=3_000)]
    ollama.script = [Reply("yes")]

    await provider.chat(ask("short", model="tiny", context_tokens=16_384))

    assert ollama.requests[0]["options"]["num_ctx"] == 3_000


async def test_an_answer_that_fills_the_context_says_that_there_is_no_room(
    ollama: OllamaServer, provider: OllamaProvider
) -> None:
    ollama.models = [Model("tiny:latest", context_tokens=1_024)]
    ollama.script = [Reply("and so on " * 300, done_reason="length")]

    with pytest.raises(PromptTooLong, match="1024 tokens of context of tiny"):
        await provider.chat(ask("word " * 400, model="tiny"))


async def test_a_prompt_that_the_server_cut_in_silence_is_a_failure(
    ollama: OllamaServer,
) -> None:
    ollama.models = [Model("tiny:latest", context_tokens=1024)]
    ollama.script = [Reply("nice story")]
    stubborn = OllamaProvider(EndpointSettings("box", EndpointKind.OLLAMA, ollama.url, num_ctx=8_192))

    with pytest.raises(
        PromptCut, match=r"cut the prompt for tiny .* it read 1024 of about \d+ tokens, its context is 1024"
    ):
        await stubborn.chat(ask("word " * 4000, model="tiny"))

    await stubborn.close()


async def test_a_model_without_tools_is_told_apart(ollama: OllamaServer, provider: OllamaProvider) -> None:
    ollama.models = [Model("plain:latest", tools=False)]

    with pytest.raises(ToolsUnsupported, match="model plain does not support tools"):
        await provider.chat(ask(model="plain", tools=(LOOK,)))


async def test_an_answer_that_breaks_off_is_asked_for_again(ollama: OllamaServer, provider: OllamaProvider) -> None:
    midway = "an error was encountered while running the model: unexpected EOF"
    ollama.script = [
        Reply("half of it is", fail_midway=midway),
        Reply("half of it is", cut_midway=True),
        Reply("whole"),
    ]

    assert (await provider.chat(ask())).text == "whole"
    assert len(ollama.requests) == 3


async def test_an_answer_that_just_ends_is_never_taken_for_whole(
    ollama: OllamaServer, provider: OllamaProvider
) -> None:
    ollama.script = [Reply("this is only the first half", drop_midway=True, repeat=True)]

    with pytest.raises(EndpointDown, match="the answer ended before it was done"):
        await provider.chat(ask())

    assert len(ollama.requests) == 3


async def test_a_socket_that_is_cut_every_time_is_an_endpoint_that_is_down(
    ollama: OllamaServer, provider: OllamaProvider
) -> None:
    ollama.script = [Reply("this is only the first half", cut_midway=True, repeat=True)]

    with pytest.raises(EndpointDown, match="broke off or is not there") as caught:
        await provider.chat(ask())

    assert failure_of(caught.value) is FailureClass.QUOTA
    assert len(ollama.requests) == 3


async def test_a_server_that_stays_full_is_a_quota_failure_when_the_time_is_over(
    ollama: OllamaServer, provider: OllamaProvider
) -> None:
    ollama.script = [Reply(status=503, error=BUSY, repeat=True)]

    with pytest.raises(ServerFull, match="maximum pending requests") as refused:
        await provider.chat(ask(timeout_s=1.0))
    assert failure_of(refused.value) is FailureClass.QUOTA


async def test_a_full_queue_is_waited_out_and_the_wait_told(ollama: OllamaServer, provider: OllamaProvider) -> None:
    ollama.script = [Reply(status=503, error=BUSY), Reply("hi")]

    reply = await provider.chat(ask())

    assert (reply.text, len(ollama.requests)) == ("hi", 2)
    assert reply.usage.timing is not None
    assert (reply.usage.timing.queue_s or 0.0) >= FIRST_FULL_WAIT_S


async def test_the_wait_for_a_turn_at_the_server_is_told(ollama: OllamaServer, provider: OllamaProvider) -> None:
    hold, begun = asyncio.Event(), asyncio.Event()
    ollama.script = [Reply("first", hold=hold), Reply("second")]
    first = asyncio.create_task(provider.chat(ask(on_text=lambda _text: begun.set())))
    await begun.wait()
    second = asyncio.create_task(provider.chat(ask()))
    await ollama.until(lambda: len(ollama.requests) == 2)
    hold.set()
    waits = [reply.usage.timing.queue_s for reply in await asyncio.gather(first, second) if reply.usage.timing]

    assert waits[0] == pytest.approx(0.0, abs=0.01)
    assert (waits[1] or 0.0) > 0.0


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


async def test_what_comes_is_heard_as_it_comes(ollama: OllamaServer, provider: OllamaProvider) -> None:
    ollama.script = [Reply("Forty-two, as everybody knows.")]
    heard: list[str] = []
    asked: list[Answering | None] = []

    reply = await provider.chat(
        ask(on_text=heard.append, on_flow=lambda ask: asked.append(None if ask is None else ask()))
    )

    first, last = asked
    assert "".join(heard) == reply.text
    assert len(heard) > 1
    assert first is not None
    assert (first.phase, first.model, first.endpoint, first.tokens) == (AnswerPhase.READING, "qwen3:8b", "box", 0)
    assert last is None


async def test_silence_between_two_words_ends_the_request_and_hangs_up(ollama: OllamaServer) -> None:
    ollama.script = [Reply("first a word, then silence", hold=asyncio.Event(), repeat=True)]
    settings = EndpointSettings("box", EndpointKind.OLLAMA, ollama.url, default_model="qwen3:8b", stall_s=0.2)
    hasty, heard = OllamaProvider(settings), list[str]()

    with pytest.raises(EndpointStalled, match=r"no sign of life for \d s while writing, after 3 tokens; .* stall_s"):
        await hasty.chat(ask(on_text=heard.append))

    await until_hung_up(ollama)
    assert len(ollama.requests) == 1  # whoever stalls once gets the same request from somebody else's queue
    assert heard[-1] == "\n[the answer broke off here]\n"
    await hasty.close()


async def test_an_answer_without_end_is_hung_up_on(ollama: OllamaServer, provider: OllamaProvider) -> None:
    ollama.script = [Reply("and so on " * 10_000, hold=asyncio.Event())]

    with pytest.raises(AnswerEndless, match="the answer of qwen3:8b did not end: 1025 pieces where 50 tokens"):
        await provider.chat(ask(max_output_tokens=50))

    await until_hung_up(ollama)

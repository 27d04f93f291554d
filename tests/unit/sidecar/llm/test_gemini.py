"""What only Gemini does. What all hosted services have in common: test_hosted.py."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from protocol.choice import Effort
from protocol.errors import EndpointBusy, EndpointDown, EndpointRefused, ModelFailed, ModelMissing, PromptTooLong
from protocol.model import EndpointKind
from sidecar.errors import AnswerEndless
from sidecar.llm.base import ChatMessage, ChatRequest, ToolSpec
from sidecar.llm.config import EndpointSettings
from sidecar.llm.endpoints import Endpoints
from sidecar.llm.gemini import MAX_EVENT_BYTES, GeminiProvider
from tests.support.gemini_server import KEY, GeminiServer, Raw, problem, retry_info, said, stream

LOOK = ToolSpec("look", "Look at a file.", {"type": "object", "properties": {"path": {"type": "string"}}})
HELLO = ChatRequest(messages=(ChatMessage("user", "hello"),), system="Be brief.", temperature=0.5)


@pytest.fixture
async def server() -> AsyncIterator[GeminiServer]:
    server = GeminiServer()
    await server.start()
    yield server
    await server.stop()


def settings(server: GeminiServer, key: str = KEY) -> EndpointSettings:
    return EndpointSettings("gemini", EndpointKind.GEMINI, server.url, api_key=key)


@pytest.fixture
async def provider(server: GeminiServer) -> AsyncIterator[GeminiProvider]:
    provider = GeminiProvider(settings(server))
    yield provider
    await provider.close()


async def test_an_answer_in_pieces_comes_whole_and_thoughts_are_no_part_of_it(
    server: GeminiServer, provider: GeminiProvider
) -> None:
    counts = {
        "promptTokenCount": 100, "cachedContentTokenCount": 40, "toolUsePromptTokenCount": 5,
        "candidatesTokenCount": 10, "thoughtsTokenCount": 30, "totalTokenCount": 145,
    }  # fmt: skip
    server.script = [
        [
            said({"text": "I wonder...", "thought": True}, finish=""),
            said({"text": "Forty-"}, finish=""),
            said({"text": "two."}, {"text": ""}, usageMetadata=counts),
        ]
    ]
    heard: list[str] = []

    reply = await provider.chat(replace(HELLO, on_text=heard.append))

    usage = reply.usage
    assert heard == ["Forty-", "two."]
    assert reply.text == "Forty-two."
    assert reply.finish == "stop"
    assert (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens) == (105, 40, 40)
    assert usage.model == "gemini-2.5-flash"
    # 0.30 dollars a million read, 2.50 written; what is read from the cache costs a tenth
    assert usage.cost_usd == pytest.approx((65 * 0.3 + 40 * 0.03 + 40 * 2.5) / 1e6)
    assert usage.timing is not None
    assert server.requests[0] == {
        "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {"maxOutputTokens": 4096, "temperature": 0.5},
    }


async def test_calls_come_back_with_their_ids_and_signatures_and_the_results_of_a_turn_together(
    server: GeminiServer, provider: GeminiProvider
) -> None:
    signed = {"functionCall": {"id": "fc-1", "name": "look", "args": {"path": "a.py"}}, "thoughtSignature": "c2ln"}
    server.script = [[said(signed, {"functionCall": {"name": "list"}})], [said({"text": "Seen."})]]
    first = await provider.chat(ChatRequest(messages=HELLO.messages, tools=(LOOK,)))
    one, two = first.tool_calls
    turns = (
        *HELLO.messages,
        ChatMessage("assistant", "I look.", (one, two)),
        ChatMessage("tool", "nothing", call_id=one.id, tool="look"),
        ChatMessage("tool", "more", call_id=two.id, tool="list"),
    )

    second = await provider.chat(ChatRequest(messages=turns, tools=(LOOK,)))

    assert first.finish == "tool_calls"
    assert [(call.id, call.name, call.arguments, call.problem) for call in (one, two)] == [
        ("fc-1", "look", {"path": "a.py"}, ""),
        ("call-2", "list", {}, ""),
    ]
    assert second.text == "Seen."
    tools = [{"functionDeclarations": [{"name": "look", "description": "Look at a file.",
                                        "parametersJsonSchema": LOOK.parameters}]}]  # fmt: skip
    assert server.requests[0]["tools"] == tools
    assert server.requests[1]["contents"][1:] == [
        {
            "role": "model",
            "parts": [{"text": "I look."}, signed, {"functionCall": {"name": "list", "args": {}}}],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "fc-1", "name": "look", "response": {"result": "nothing"}}},
                {"functionResponse": {"name": "list", "response": {"result": "more"}}},
            ],
        },
    ]


async def test_arguments_that_are_no_object_are_told_to_the_caller(
    server: GeminiServer, provider: GeminiProvider
) -> None:
    server.script = [[said({"functionCall": {"name": "look", "args": ["a.py"]}})]]

    (call,) = (await provider.chat(HELLO)).tool_calls

    assert (call.arguments, call.problem) == ({}, "the arguments must be a JSON object")


async def test_the_wait_that_the_details_name_is_obeyed(server: GeminiServer, provider: GeminiProvider) -> None:
    busy = problem(429, "You exceeded your current quota.", {"violations": []}, retry_info("0.05s"))
    far = problem(429, "You exceeded your current quota.", retry_info("41.5s"))
    server.script = [error(busy, 429), error(far, 429)]

    with pytest.raises(EndpointBusy, match="You exceeded your current quota") as caught:
        await provider.chat(HELLO)

    assert caught.value.retry_after_s == 41.5
    assert len(server.requests) == 2


async def test_a_failure_in_the_middle_of_an_answer_is_one(server: GeminiServer, provider: GeminiProvider) -> None:
    overloaded = problem(503, "The model is overloaded.", retry_info("30s"))
    server.script = [[said({"text": "Half an "}, finish=""), overloaded]]

    with pytest.raises(EndpointBusy, match="The model is overloaded"):
        await provider.chat(HELLO)


async def test_a_wrong_key_is_told_with_another_status_and_understood(server: GeminiServer) -> None:
    provider = GeminiProvider(settings(server, "AIza-wrong"))

    with pytest.raises(EndpointRefused, match=r"API key not valid.*check its API key"):
        await provider.chat(HELLO)
    await provider.close()


async def test_a_model_that_is_not_there_and_a_prompt_that_is_too_long_have_their_errors(
    server: GeminiServer, provider: GeminiProvider
) -> None:
    long = "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)."
    server.script = [
        error(problem(404, "models/gemini-0 is not found for API version v1beta."), 404),
        error(problem(400, long), 400),
    ]

    with pytest.raises(ModelMissing, match="gemini-0"):
        await provider.chat(ChatRequest(messages=HELLO.messages, model="gemini-0"))
    with pytest.raises(PromptTooLong):
        await provider.chat(HELLO)


@pytest.mark.parametrize("reason, finish", [("STOP", "stop"), ("MAX_TOKENS", "length")])
async def test_every_reason_to_finish_has_its_meaning(
    server: GeminiServer, provider: GeminiProvider, reason: str, finish: str
) -> None:
    server.script = [[said({"text": "42"}, finish=reason)]]

    assert (await provider.chat(HELLO)).finish == finish


@pytest.mark.parametrize(
    "event, why",
    [
        (said(finish="SAFETY"), "refuses to do this: SAFETY"),
        (said(finish="PROHIBITED_CONTENT"), "refuses to do this: PROHIBITED_CONTENT"),
        (said(finish="MALFORMED_FUNCTION_CALL"), "cannot be handled here: MALFORMED_FUNCTION_CALL"),
        ({"promptFeedback": {"blockReason": "BLOCKLIST"}}, "refuses to do this: BLOCKLIST"),
    ],
)
async def test_an_answer_that_is_withheld_is_a_failure_of_the_model(
    server: GeminiServer, provider: GeminiProvider, event: dict[str, Any], why: str
) -> None:
    server.script = [[event]]

    with pytest.raises(ModelFailed, match=why):
        await provider.chat(HELLO)

    assert len(server.requests) == 1


WHOLE = stream([said({"text": "a fine answer"})])


@pytest.mark.parametrize(
    "answer, why",
    [
        (Raw(b"<html>Please log in</html>", content_type="text/html"), "text/html where text/event-stream is expected"),
        (Raw(b'[{"candidates": []}]', content_type="application/json"), "application/json where"),
        (Raw(b"data: {'candidates'\n\n"), "JSON is malformed"),
        (Raw(b'data: {"candidates": 7}\n\n'), "Expected `array`"),
        (Raw(b'data: {"candidates": [{"content": {"parts": [{"text": 7}]}}]}\n\n'), "Expected `str`"),
        (Raw(b"data: \xff\xfe\n\n"), "malformed|utf-8"),
        (Raw(WHOLE, is_cut=True), "gemini"),
        (Raw(b""), "the answer ended before it was done"),
        (Raw(WHOLE.removesuffix(b"\r\n")), "the answer ended before it was done"),
        (Raw(b"data: " + b" " * (MAX_EVENT_BYTES + 1)), "an event of more than"),
        (Raw((b"data: " + b" " * 1_000 + b"\n") * 5_000), "an event of more than"),
        (Raw(b"<html>Bad gateway</html>", status=502, content_type="text/html"), "HTTP 502: <html>Bad gateway"),
        (Raw(b"", status=302, headers={"location": "http://127.0.0.1:9/"}), "HTTP 302"),
    ],
)
async def test_an_answer_that_is_none_is_an_endpoint_in_trouble(
    server: GeminiServer, provider: GeminiProvider, answer: Raw, why: str
) -> None:
    server.script = [answer]

    with pytest.raises(EndpointDown, match=why):
        await provider._ask(HELLO, "m")  # a single try


async def test_events_may_come_in_any_pieces_and_with_lines_between(
    server: GeminiServer, provider: GeminiProvider
) -> None:
    event = msgspec.json.encode(said({"text": "two lines"})).replace(b', "', b',\n"').replace(b'],"', b'],\n"')
    lines = b"".join(b"data: " + line + b"\n" for line in event.splitlines())
    server.script = [Raw(b": a comment\n\nevent: message\nid: 7\n" + lines + b"\n")]

    assert (await provider.chat(HELLO)).text == "two lines"


async def test_an_answer_without_end_is_hung_up_on(server: GeminiServer, provider: GeminiProvider) -> None:
    server.script = [[said({"text": "and so on"}, finish="")] * 2_000]

    with pytest.raises(AnswerEndless):
        await provider.chat(ChatRequest(messages=HELLO.messages, max_output_tokens=50))


@pytest.mark.parametrize(
    "model, thinking",
    [
        ("gemini-3-pro-preview", {"thinkingLevel": "high"}),
        ("gemini-flash-latest", {"thinkingLevel": "high"}),
        ("gemini-2.5-flash", {"thinkingBudget": 24_576}),
    ],
)
async def test_more_effort_is_asked_for_in_the_words_of_the_model(
    server: GeminiServer, provider: GeminiProvider, model: str, thinking: dict[str, object]
) -> None:
    server.script = [[said({"text": "42"})]]

    await provider.chat(ChatRequest(messages=HELLO.messages, effort=Effort.HIGH, model=model))

    assert server.requests[0]["generationConfig"]["thinkingConfig"] == thinking


async def test_a_sidecar_with_a_key_finds_its_models_and_one_without_says_so(server: GeminiServer) -> None:
    endpoints, keyless = Endpoints([settings(server)]), Endpoints([settings(server, "")])

    (report,) = await endpoints.discover()
    nothing = await keyless.discover()
    server.script = [[said({"text": "here"})]]
    reply = await endpoints.provider("gemini").chat(HELLO)
    await endpoints.close()

    assert (report.local, report.default_model) == (False, "gemini-2.5-flash")
    assert [(model.name, model.context) for model in report.models] == [("gemini-2.5-flash", 1_048_576)]
    assert nothing == ()
    assert keyless.troubles[0].problem == "it has no API key"
    assert reply.text == "here"


def error(body: dict[str, Any], status: int) -> Raw:
    return Raw(msgspec.json.encode(body), status=status, content_type="application/json")

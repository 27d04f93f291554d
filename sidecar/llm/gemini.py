"""Talk to Google's Gemini API (https://ai.google.dev/api/generate-content), or to a server that speaks it.

Always streams, over plain HTTP: the API's own client is large, follows redirects with the key, and takes a stream that
simply ends for an answer. Here an answer without ``finishReason`` is a failure. What comes is read with suspicion: an
event of any size and any shape ends this answer at most.
"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from protocol.choice import Effort
from protocol.errors import EndpointDown, ModelFailed, WorkFailed
from protocol.listing import Odd, bounded, headers
from protocol.model import EndpointKind, Usage
from sidecar.llm import effort
from sidecar.llm.base import (
    CONNECT_TIMEOUT_S,
    SILENCE_TIMEOUT_S,
    ChatMessage,
    ChatReply,
    ChatRequest,
    Finish,
    ToolCall,
    answered_by,
    cause,
    joined_turns,
    patiently,
    whole_text,
)
from sidecar.llm.config import USUAL_MODELS, EndpointSettings
from sidecar.llm.flow import Flow, Traffic
from sidecar.llm.pricing import TokenCounts, cost_usd
from sidecar.llm.statuses import translated

if TYPE_CHECKING:
    import aiohttp  # only its names: it is imported when the first endpoint is asked

MAX_EVENT_BYTES: Final = 4 << 20
"""A whole file may come as the argument of one call, which is one event."""
MAX_ERROR_BYTES: Final = 64 << 10
_OURS: Final = "call-"
"""How the ids begin that calls get here, as the API may leave them out."""
_REFUSALS: Final = frozenset(
    {"SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY"}
)


class _Call(Struct, frozen=True):
    name: str
    id: str = ""
    args: Any = None


class _Part(Struct, frozen=True, rename="camel"):
    text: str = ""
    thought: bool = False
    thought_signature: str = ""
    function_call: _Call | None = None


class _Content(Struct, frozen=True):
    parts: tuple[_Part, ...] = ()


class _Candidate(Struct, frozen=True, rename="camel"):
    content: _Content = _Content()
    finish_reason: str = ""


class _Counts(Struct, frozen=True, rename="camel"):
    prompt_token_count: int = 0
    cached_content_token_count: int = 0
    candidates_token_count: int = 0
    tool_use_prompt_token_count: int = 0
    thoughts_token_count: int = 0

    def tokens(self) -> TokenCounts:
        """All of them; what is thought counts as written, and the cached tokens are among those of the prompt."""
        return TokenCounts(
            self.prompt_token_count + self.tool_use_prompt_token_count,
            self.candidates_token_count + self.thoughts_token_count,
            self.cached_content_token_count,
        )


class _Feedback(Struct, frozen=True, rename="camel"):
    block_reason: str = ""


class _Problem(Struct, frozen=True):
    """``error`` of an answer that is none (https://cloud.google.com/apis/design/errors)."""

    code: int = 500
    message: str = ""
    details: tuple[dict[str, Any], ...] = ()

    def told(self, name: str) -> Any:  # noqa: ANN401 - whatever the server put there
        """The value of that name in any of the details."""
        return next((detail[name] for detail in self.details if name in detail), None)


class _Event(Struct, frozen=True, rename="camel"):
    candidates: tuple[_Candidate, ...] = ()
    usage_metadata: _Counts | None = None
    prompt_feedback: _Feedback = _Feedback()
    model_version: str = ""
    error: _Problem | None = None


class GeminiProvider:
    """Chat with Gemini models; the URL ends where ``/models`` begins."""

    def __init__(self, settings: EndpointSettings, traffic: Traffic | None = None) -> None:
        import aiohttp

        self._settings = settings
        self._traffic = traffic or Traffic(settings.id, stall_s=settings.stall_s)
        self._transport_errors = (aiohttp.ClientError, OSError, Odd, msgspec.DecodeError, UnicodeError)
        self._client = aiohttp.ClientSession(
            trust_env=not settings.is_local,
            headers=headers(EndpointKind.GEMINI, settings.api_key),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_TIMEOUT_S),
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def chat(self, request: ChatRequest) -> ChatReply:
        """See :class:`sidecar.llm.base.Provider`."""
        model = request.model or self._settings.default_model or USUAL_MODELS[EndpointKind.GEMINI]
        return await patiently(lambda: self._ask(request, model), timeout_s=request.timeout_s)

    async def _ask(self, request: ChatRequest, model: str) -> ChatReply:
        flow, answer = self._traffic.begin(request, model), _Answer()
        url = f"{self._settings.url.rstrip('/')}/models/{model}:streamGenerateContent?alt=sse"
        try:
            async with flow.watched():
                # A redirect would take the key to a place that nobody has named.
                async with self._client.post(url, json=_body(request, model), allow_redirects=False) as response:
                    async for event in self._events(response, model):
                        answer.take(event, flow)
                flow.is_whole = bool(answer.finish_reason)
        except self._transport_errors as exc:
            raise EndpointDown(self._settings.id, f"{self._settings.url}: {cause(exc)}") from exc
        finish = self._finish(answer, model)
        usage = self._usage(answer, answered_by(self._settings.id, model, answer.model), flow)
        self._traffic.measured(model, usage)
        return ChatReply(whole_text(answer.text), finish, usage, tuple(answer.calls))

    async def _events(self, response: "aiohttp.ClientResponse", model: str) -> AsyncIterator[_Event]:
        """What comes, one after the other.

        Raises:
            WorkFailed: it is an error, also one in the middle of the answer.
            Odd, msgspec.DecodeError: it is no such stream.
        """
        if response.status != 200:  # noqa: PLR2004 - HTTP OK
            raise self._failed(response, await bounded(response.content.iter_any(), MAX_ERROR_BYTES), model)
        if response.content_type != "text/event-stream":
            raise Odd(f"it answers {response.content_type[:100]} where text/event-stream is expected")
        async for text in _texts(response.content):
            event = msgspec.json.decode(text, type=_Event)
            if event.error is not None:
                raise self._translated(event.error, event.error.code, response, model)
            yield event

    def _failed(self, response: "aiohttp.ClientResponse", body: bytes, model: str) -> WorkFailed:
        try:
            problem = msgspec.json.decode(body, type=_Event).error or _Problem()
        except (msgspec.DecodeError, UnicodeError):  # a proxy on the way speaks HTML
            problem = _Problem(message=body.decode("utf-8", "replace"))
        return self._translated(problem, response.status, response, model)

    def _translated(self, problem: _Problem, status: int, response: "aiohttp.ClientResponse", model: str) -> WorkFailed:
        """The error; how long to wait stands in its details, and a wrong key is told with the status 400."""
        told = {name.lower(): value for name, value in response.headers.items()}
        if isinstance(delay := problem.told("retryDelay"), str):
            told["retry-after"] = delay.removesuffix("s")
        if problem.told("reason") == "API_KEY_INVALID":
            status = 401
        return translated(self._settings.id, model, status, told, problem.message)

    def _usage(self, answer: "_Answer", model: str, flow: Flow) -> Usage:
        tokens, settings = answer.counts.tokens(), self._settings
        return Usage(
            model=model,
            endpoint=settings.id,
            input_tokens=tokens.input,
            output_tokens=tokens.output,
            cached_input_tokens=tokens.cache_read,
            cost_usd=cost_usd(tokens, model, kind=EndpointKind.GEMINI, url=settings.url, local=settings.is_local),
            seconds=flow.took_s,
            timing=flow.timing(),
        )

    def _finish(self, answer: "_Answer", model: str) -> Finish:
        match answer.finish_reason:
            case "" if answer.blocked:
                raise ModelFailed(f"model {model} refuses to do this: {answer.blocked}")
            case "":
                raise EndpointDown(self._settings.id, "the answer ended before it was done")
            case "STOP":
                return "tool_calls" if answer.calls else "stop"
            case "MAX_TOKENS":
                return "length"
            case reason if reason in _REFUSALS:
                raise ModelFailed(f"model {model} refuses to do this: {reason}")
            case other:
                raise ModelFailed(f"model {model} stopped for a reason that cannot be handled here: {other[:100]}")


class _Answer:
    """A response that arrives in events, each with parts of the whole."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.calls: list[ToolCall] = []
        self.finish_reason = self.blocked = self.model = ""
        self.counts = _Counts()

    def take(self, event: _Event, flow: Flow) -> None:
        """Add one event; one candidate is asked for, so what others say does not count."""
        flow.beat()
        self.model = event.model_version or self.model
        self.blocked = event.prompt_feedback.block_reason[:100] or self.blocked
        self.counts = event.usage_metadata or self.counts
        for candidate in event.candidates[:1]:
            for part in candidate.content.parts:
                self._add(part, flow)
            self.finish_reason = candidate.finish_reason or self.finish_reason

    def _add(self, part: _Part, flow: Flow) -> None:
        if part.function_call is not None:
            self.calls.append(_called(part.function_call, part.thought_signature, len(self.calls) + 1))
            flow.take(f"{part.function_call.name} {part.function_call.args} {part.thought_signature}", is_shown=False)
        elif part.thought:
            flow.take(part.text, is_shown=False)
        else:
            self.text.append(part.text)
            flow.take(part.text)


def _called(call: _Call, signature: str, number: int) -> ToolCall:
    arguments, problem = {} if call.args is None else call.args, ""
    if not isinstance(arguments, dict):
        arguments, problem = {}, "the arguments must be a JSON object"
    return ToolCall(call.id or f"{_OURS}{number}", call.name, arguments, problem, signature)


async def _texts(content: "aiohttp.StreamReader") -> AsyncIterator[bytes]:
    """The data of each event, as one text (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    Raises:
        Odd: one is larger than we read.
    """
    left, text = b"", bytearray()
    async for piece in content.iter_any():
        *whole, left = (left + piece).split(b"\n")
        for line in (line.rstrip(b"\r") for line in whole):
            if line.startswith(b"data:"):
                text += line[5:] + b"\n"
            elif not line and text:
                yield bytes(text)
                text.clear()
        if len(left) + len(text) > MAX_EVENT_BYTES:
            raise Odd(f"it sends an event of more than {MAX_EVENT_BYTES:,} bytes")


# --- the request ------------------------------------------------------------------------------------------------------


def _body(request: ChatRequest, model: str) -> dict[str, Any]:
    generation: dict[str, Any] = {"maxOutputTokens": request.max_output_tokens}
    if request.temperature is not None:
        generation["temperature"] = request.temperature
    if request.effort is Effort.HIGH:
        generation["thinkingConfig"] = effort.gemini(model)
    body: dict[str, Any] = {
        "contents": [
            {"role": "model" if side == "assistant" else side, "parts": parts}
            for side, parts in joined_turns(request.messages, _parts)
        ],
        "generationConfig": generation,
    }
    if request.system:
        body["systemInstruction"] = {"parts": [{"text": request.system}]}
    if request.tools:
        body["tools"] = [
            {
                "functionDeclarations": [
                    {"name": t.name, "description": t.description, "parametersJsonSchema": dict(t.parameters)}
                    for t in request.tools
                ]
            }
        ]
    return body


def _parts(message: ChatMessage) -> list[dict[str, Any]]:
    if message.role == "tool":
        result = {"name": message.tool, "response": {"result": message.text}} | _id(message.call_id)
        return [{"functionResponse": result}]
    parts: list[dict[str, Any]] = [{"text": message.text}] if message.text.strip() else []
    for call in message.tool_calls:
        part: dict[str, Any] = {"functionCall": {"name": call.name, "args": call.arguments} | _id(call.id)}
        # Newer models refuse a conversation whose calls come back without what they signed them with.
        parts.append(part | ({"thoughtSignature": call.signature} if call.signature else {}))
    return parts


def _id(name: str) -> dict[str, str]:
    return {} if not name or name.startswith(_OURS) else {"id": name}

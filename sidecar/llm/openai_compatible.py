"""Talk to OpenAI and to every server that speaks its chat completions (llama.cpp, vLLM, LM Studio, OpenRouter).

Always streams. The client accepts a stream that simply ends; here an answer without ``finish_reason`` is a failure.
"""

import json
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from protocol.choice import Effort
from protocol.errors import EndpointBusy, EndpointDown, ModelFailed, ModelMissing
from protocol.listing import LLAMA_CPP
from protocol.model import EndpointKind, Residency, Timing, Usage
from sidecar.errors import ServerFull
from sidecar.llm import effort
from sidecar.llm.base import (
    CONNECT_TIMEOUT_S,
    SILENCE_TIMEOUT_S,
    ChatMessage,
    ChatReply,
    ChatRequest,
    Finish,
    PartialCall,
    answered_by,
    cause,
    patiently,
    whole_text,
)
from sidecar.llm.config import EndpointSettings
from sidecar.llm.flow import Flow, Traffic
from sidecar.llm.headers import bare
from sidecar.llm.looking import names
from sidecar.llm.pricing import TokenCounts, cost_usd
from sidecar.llm.statuses import translated
from sidecar.spans import headers


class OpenAIProvider:
    """Chat with the models of one OpenAI-compatible server; its URL ends where ``/chat/completions`` begins."""

    def __init__(self, settings: EndpointSettings, traffic: Traffic | None = None) -> None:
        import httpx2
        import openai

        self._settings = settings
        self._traffic = traffic or Traffic(settings.id, stall_s=settings.stall_s)
        self._status_error = openai.APIStatusError
        self._transport_errors = (openai.APIError, httpx2.HTTPError, ValueError)
        # OpenAI's newer models refuse the old name of the limit, other servers may not know the new one.
        host = urlsplit(settings.url).hostname or ""
        self._limit_name = "max_completion_tokens" if host.endswith("openai.com") else "max_tokens"
        # A local server may load a model or work through a long prompt for minutes before its first byte; there the
        # flow alone judges silence.
        silence_s = None if settings.is_local else SILENCE_TIMEOUT_S
        self._client = openai.AsyncOpenAI(
            api_key=settings.api_key or "none",  # the client wants one even where the server does not
            base_url=settings.url,
            max_retries=0,  # base.patiently asks again, within the time that is left
            timeout=httpx2.Timeout(silence_s, connect=CONNECT_TIMEOUT_S),
            http_client=None if settings.api_key else openai.DefaultAsyncHttpxClient(event_hooks={"request": [bare]}),
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def chat(self, request: ChatRequest) -> ChatReply:
        """See :class:`sidecar.llm.base.Provider`."""
        model = request.model or self._settings.default_model
        if not model:
            raise ModelMissing(self._settings.id, "", await names(self._settings))
        return await patiently(lambda: self._ask(request, model), timeout_s=request.timeout_s)

    async def _ask(self, request: ChatRequest, model: str) -> ChatReply:
        flow, answer = self._traffic.begin(request, model), _Answer()
        found = self._traffic.has(model)
        if found is not None and found.residency is Residency.COLD:
            flow.must_load(found.size_bytes)
        parameters = _parameters(request, model, self._limit_name)
        if self._traffic.listed.maker == LLAMA_CPP:
            parameters["extra_body"] = {"return_progress": True}  # how much of the prompt is read, as it is
        if self._settings.is_local and (told := headers()):
            parameters["extra_headers"] = told  # a server of ours may tell of its part, too
        try:
            async with flow.watched():
                async with await self._client.chat.completions.create(**parameters) as stream:
                    async for chunk in stream:
                        answer.take(chunk, flow)
                flow.is_whole = answer.finish_reason is not None
        except self._status_error as exc:
            refused = translated(self._settings.id, model, exc.status_code, exc.response.headers, exc.message)
            if isinstance(refused, EndpointBusy) and self._settings.is_local and refused.retry_after_s is None:
                raise ServerFull(refused.endpoint, refused.problem) from exc
            raise refused from exc
        except self._transport_errors as exc:
            raise EndpointDown(self._settings.id, f"{self._settings.url}: {cause(exc)}") from exc
        finish = self._finish(answer, model)
        calls = tuple(call.whole() for call in answer.calls.values())
        usage = self._usage(answer, answered_by(self._settings.id, model, answer.model), flow.took_s, flow)
        self._traffic.measured(model, usage)
        return ChatReply(whole_text(answer.text), finish, usage, calls)

    def _finish(self, answer: "_Answer", model: str) -> Finish:
        match answer.finish_reason:
            case None:
                raise EndpointDown(self._settings.id, "the answer ended before it was done")
            case "length":
                return "length"
            case "content_filter":
                raise ModelFailed(f"model {model} refuses to do this")
            case _:
                # Some servers say "stop" although they called tools.
                return "tool_calls" if answer.calls else "stop"

    def _usage(self, answer: "_Answer", model: str, seconds: float, flow: Flow | None = None) -> Usage:
        settings, tokens = self._settings, answer.tokens
        cost = answer.cost_usd
        if cost is None or settings.is_local:
            cost = cost_usd(tokens, model, kind=EndpointKind.OPENAI, url=settings.url, local=settings.is_local)
        return Usage(
            model=model,
            endpoint=settings.id,
            input_tokens=tokens.input,
            output_tokens=tokens.output,
            cached_input_tokens=tokens.cache_read,
            cost_usd=cost,
            seconds=seconds,
            timing=answer.timing(seconds, flow, is_local=settings.is_local),
        )


class _Answer:
    """A completion that arrives in chunks."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.calls: dict[int, PartialCall] = {}
        self.finish_reason: str | None = None
        self.tokens = TokenCounts(0, 0)
        self.cost_usd: float | None = None
        self.model = ""
        self._told: dict[str, float] = {}

    def take(self, chunk: Any, flow: Flow) -> None:  # noqa: ANN401 - the client's type, imported only when it is used
        """Add one chunk; the last one has the usage and no choice."""
        self.model = chunk.model or self.model
        more = chunk.model_extra or {}
        self._told = _numbers(more.get("timings")) or self._told
        if (read := _numbers(more.get("prompt_progress"))).get("total"):
            flow.reads(read.get("processed", 0.0) / read["total"])
        else:
            flow.beat()
        if chunk.usage is not None:
            self._count(chunk.usage)
        for choice in chunk.choices or ():
            self.text.append(choice.delta.content or "")
            if choice.delta.content:
                flow.take(choice.delta.content)
            if thought := (choice.delta.model_extra or {}).get("reasoning_content"):
                flow.take(str(thought), is_shown=False)
            for piece in choice.delta.tool_calls or ():
                flow.take((piece.function and piece.function.arguments) or "", is_shown=False)
                call = self.calls.setdefault(piece.index, PartialCall())
                call.id = call.id or piece.id or f"call-{piece.index + 1}"
                if piece.function is not None:
                    call.name = call.name or piece.function.name or ""
                    call.pieces.append(piece.function.arguments or "")
            self.finish_reason = choice.finish_reason or self.finish_reason

    def timing(self, seconds: float, flow: Flow | None, *, is_local: bool) -> Timing:
        """Where the time went: as llama.cpp tells it, else as the pieces came.

        The time to the first piece counts as reading where no queue of ours stands before the server.
        """
        if self._told:
            told = self._told
            return Timing(
                model_s=seconds,
                prefill_s=told.get("prompt_ms", 0.0) / 1000,
                decode_s=told.get("predicted_ms", 0.0) / 1000,
                queue_s=max(0.0, seconds - (told.get("prompt_ms", 0.0) + told.get("predicted_ms", 0.0)) / 1000),
            )
        if flow is None:
            return Timing(model_s=seconds)
        if not is_local:
            return flow.timing()
        return msgspec.structs.replace(flow.timing(), prefill_s=0.0, queue_s=flow.waited_s())

    def _count(self, usage: Any) -> None:  # noqa: ANN401 - one of the client's usage types
        details = usage.prompt_tokens_details
        cached = (details.cached_tokens or 0) if details is not None else 0
        self.tokens = TokenCounts(usage.prompt_tokens or 0, usage.completion_tokens or 0, cached)
        # OpenRouter tells what it charged, which beats any price list.
        cost = (usage.model_extra or {}).get("cost")
        self.cost_usd = float(cost) if isinstance(cost, int | float) else None


_HUGE: Final = 1e15
"""What no server has counted or measured."""


def _numbers(found: object) -> dict[str, float]:
    """The numbers of an object that a server has added to the protocol; empty if it is none."""
    if not isinstance(found, dict):
        return {}
    known = ((name, value) for name, value in found.items() if isinstance(value, int | float))
    return {name: float(value) for name, value in known if abs(value) < _HUGE}


def _parameters(request: ChatRequest, model: str, limit_name: str) -> dict[str, Any]:
    system = [{"role": "system", "content": request.system}] if request.system else []
    parameters: dict[str, Any] = {
        "model": model,
        "messages": [*system, *(_message(m) for m in request.messages)],
        limit_name: request.max_output_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.effort is Effort.HIGH:
        parameters["reasoning_effort"] = effort.OPENAI
    if request.temperature is not None:
        parameters["temperature"] = request.temperature
    if request.schema is not None:
        answer = {"name": "answer", "schema": dict(request.schema)}
        parameters["response_format"] = {"type": "json_schema", "json_schema": answer}
    if request.tools:
        parameters["tools"] = [
            {
                "type": "function",
                "function": {"name": t.name, "description": t.description, "parameters": dict(t.parameters)},
            }
            for t in request.tools
        ]
    return parameters


def _message(message: ChatMessage) -> dict[str, Any]:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.call_id, "content": message.text}
    shaped: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        shaped["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": json.dumps(c.arguments)}}
            for c in message.tool_calls
        ]
    return shaped

"""Talk to the Claude API with Anthropic's own client.

Always streams, so that giving up closes the connection and a long answer needs no long silence. The client accepts a
stream that simply ends; here an answer without ``stop_reason`` and ``message_stop`` is a failure.
"""

from typing import Any

from protocol.choice import Effort
from protocol.errors import EndpointDown, ModelFailed
from protocol.model import EndpointKind, Usage
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
    joined_turns,
    patiently,
    whole_text,
)
from sidecar.llm.config import USUAL_MODELS, EndpointSettings
from sidecar.llm.flow import Flow, Traffic
from sidecar.llm.pricing import TokenCounts, cost_usd
from sidecar.llm.statuses import translated


class AnthropicProvider:
    """Chat with Claude models."""

    def __init__(self, settings: EndpointSettings, traffic: Traffic | None = None) -> None:
        import anthropic
        import httpx2

        self._settings = settings
        self._traffic = traffic or Traffic(settings.id, stall_s=settings.stall_s)
        self._status_error = anthropic.APIStatusError
        # Transport errors in the middle of a stream pass through the client as httpx2's, a broken event as ValueError.
        self._transport_errors = (anthropic.APIError, httpx2.HTTPError, ValueError)
        self._client = anthropic.AsyncAnthropic(
            api_key=settings.api_key,
            base_url=settings.url,
            max_retries=0,  # base.patiently asks again, within the time that is left
            timeout=httpx2.Timeout(SILENCE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def chat(self, request: ChatRequest) -> ChatReply:
        """See :class:`sidecar.llm.base.Provider`."""
        return await patiently(lambda: self._ask(request), timeout_s=request.timeout_s)

    async def _ask(self, request: ChatRequest) -> ChatReply:
        model = request.model or self._settings.default_model or USUAL_MODELS[EndpointKind.ANTHROPIC]
        flow, answer = self._traffic.begin(request, model), _Answer()
        try:
            async with flow.watched():
                async with await self._client.messages.create(**_parameters(request, model)) as stream:
                    async for event in stream:
                        answer.take(event, flow)
                flow.is_whole = answer.ended
        except self._status_error as exc:
            error = translated(self._settings.id, model, exc.status_code, exc.response.headers, exc.message)
            raise error from exc
        except self._transport_errors as exc:
            raise EndpointDown(self._settings.id, f"{self._settings.url}: {cause(exc)}") from exc
        finish = self._finish(answer, model)
        usage = self._usage(answer, answered_by(self._settings.id, model, answer.model), flow)
        self._traffic.measured(model, usage)
        calls = tuple(call.whole() for call in answer.calls.values())
        return ChatReply(whole_text(answer.text), finish, usage, calls)

    def _usage(self, answer: "_Answer", model: str, flow: Flow) -> Usage:
        tokens, settings = answer.tokens(), self._settings
        return Usage(
            model=model,
            endpoint=settings.id,
            input_tokens=tokens.input,
            output_tokens=tokens.output,
            cached_input_tokens=tokens.cache_read,
            cost_usd=cost_usd(tokens, model, kind=EndpointKind.ANTHROPIC, url=settings.url, local=settings.is_local),
            seconds=flow.took_s,
            timing=flow.timing(),
        )

    def _finish(self, answer: "_Answer", model: str) -> Finish:
        if not answer.ended or answer.stop_reason is None:
            raise EndpointDown(self._settings.id, "the answer ended before it was done")
        match answer.stop_reason:
            case "end_turn" | "stop_sequence":
                return "stop"
            case "tool_use":
                return "tool_calls"
            case "max_tokens" | "model_context_window_exceeded":
                return "length"
            case "refusal":
                raise ModelFailed(f"model {model} refuses to do this")
            case other:
                raise ModelFailed(f"model {model} stopped for a reason that cannot be handled here: {other}")


class _Answer:
    """A message that arrives in events (https://docs.claude.com/en/api/messages-streaming)."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.calls: dict[int, PartialCall] = {}
        self.stop_reason: str | None = None
        self.ended = False
        self.model = ""
        self._counts = {
            "input_tokens": 0,
            "output_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation_input_tokens": 0,
        }

    def take(self, event: Any, flow: Flow) -> None:  # noqa: ANN401 - one of the client's many event types
        """Add one event."""
        flow.beat()
        match event.type:
            case "message_start":
                self.model = event.message.model
                self._count(event.message.usage)
            case "content_block_start" if event.content_block.type == "tool_use":
                self.calls[event.index] = PartialCall(event.content_block.id, event.content_block.name)
            case "content_block_delta" if event.delta.type == "text_delta":
                self.text.append(event.delta.text)
                flow.take(event.delta.text)
            case "content_block_delta" if event.delta.type == "thinking_delta":
                flow.take(event.delta.thinking, is_shown=False)
            case "content_block_delta" if event.delta.type == "input_json_delta" and event.index in self.calls:
                self.calls[event.index].pieces.append(event.delta.partial_json)
                flow.take(event.delta.partial_json, is_shown=False)
            case "message_delta":
                self.stop_reason = event.delta.stop_reason
                self._count(event.usage)
            case "message_stop":
                self.ended = True

    def _count(self, usage: Any) -> None:  # noqa: ANN401 - one of the client's usage types
        """Counts are cumulative; what an event does not tell keeps its last value."""
        for name in self._counts:
            self._counts[name] = getattr(usage, name, None) or self._counts[name]

    def tokens(self) -> TokenCounts:
        """All counts; Anthropic's own input count leaves the cached tokens out."""
        counts = self._counts
        read, written = counts["cache_read_input_tokens"], counts["cache_creation_input_tokens"]
        return TokenCounts(counts["input_tokens"] + read + written, counts["output_tokens"], read, written)


def _parameters(request: ChatRequest, model: str) -> dict[str, Any]:
    """The request in the API's words. It takes no temperature any more, so that wish is left out."""
    parameters: dict[str, Any] = {
        "model": model,
        "max_tokens": request.max_output_tokens,
        "messages": [{"role": side, "content": blocks} for side, blocks in joined_turns(request.messages, _blocks)],
        "stream": True,
    }
    if request.effort is Effort.HIGH:
        parameters["output_config"] = effort.CLAUDE
    if request.system:
        parameters["system"] = request.system
    if request.tools:
        parameters["tools"] = [
            {"name": t.name, "description": t.description, "input_schema": dict(t.parameters)} for t in request.tools
        ]
    return parameters


def _blocks(message: ChatMessage) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [{"type": "tool_result", "tool_use_id": message.call_id, "content": message.text}]
    text: list[dict[str, Any]] = [{"type": "text", "text": message.text}] if message.text.strip() else []
    return text + [{"type": "tool_use", "id": c.id, "name": c.name, "input": c.arguments} for c in message.tool_calls]

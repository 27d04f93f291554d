"""Talk to an Ollama server over its own API, which alone can set the context length.

Ollama drops the beginning of a prompt that does not fit and says nothing (ollama#3839): the system prompt and the tools
go first. So ``num_ctx`` is always sent, the prompt is measured before, and the server's own count is compared after.
``num_ctx`` is one constant per endpoint, because another value makes Ollama load the model anew.
"""

from typing import TYPE_CHECKING, Any, Final

from protocol.errors import (
    EndpointBusy,
    EndpointDown,
    EndpointRefused,
    ModelFailed,
    ModelMissing,
    PromptTooLong,
    ToolsUnsupported,
)
from protocol.model import ModelReport, Residency, Timing, Usage
from sidecar.llm.base import (
    CONNECT_TIMEOUT_S,
    ChatMessage,
    ChatReply,
    ChatRequest,
    Finish,
    ToolCall,
    cause,
    estimate_tokens,
    now_s,
    patiently,
    whole_text,
)
from sidecar.llm.config import EndpointSettings
from sidecar.llm.headers import bare

if TYPE_CHECKING:
    import ollama  # only its names: the import itself is slow and waits for the first endpoint of this kind

KEEP_ALIVE: Final = "5m"
_ANSWER_ROOM_TOKENS: Final = 256
"""Least room that a prompt must leave for the answer."""
_COLD_NS: Final = 100_000_000
"""A load that took longer was one; a warm model reports a millisecond or two."""
_SUSPICIOUS: Final = 0.5
"""The server counted less than this part of our estimate: ask what context the model really got."""


class OllamaProvider:
    """Chat with the models of one Ollama server."""

    def __init__(self, settings: EndpointSettings) -> None:
        import httpx
        import ollama

        self._settings = settings
        # Errors of the transport pass through the client unchanged; a broken line is a JSON error, a line that is no
        # answer a validation error of pydantic, which is a ValueError too.
        self._transport_errors = (httpx.HTTPError, httpx.InvalidURL, ConnectionError, ValueError)
        self._response_error = ollama.ResponseError
        headers = {"authorization": f"Bearer {settings.api_key}"} if settings.api_key else None
        # No whole-request timeout here: a cold model may load for minutes. The request's own timeout bounds it.
        # A proxy from the environment has no business between us and our own machine.
        self._client = ollama.AsyncClient(
            host=settings.url,
            headers=headers,
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            trust_env=not settings.is_local,
            event_hooks={} if settings.api_key else {"request": [bare]},
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()  # type: ignore[no-untyped-call]  # the library left this one method untyped

    async def models(self) -> tuple[ModelReport, ...]:
        """The models on the server's disk; those in memory are warm.

        A model that is still loading is listed by the server as if it were in memory. Models that the server passes on
        to a cloud are left out: they are neither local nor ours to pay for unasked.
        """
        try:
            listed, running = await self._client.list(), await self._client.ps()
        except self._response_error as exc:
            raise self._translated(exc, "") from exc
        except self._transport_errors as exc:
            raise EndpointDown(self._settings.id, f"no Ollama answers at {self._settings.url} ({exc})") from exc
        warm = {entry.model: entry for entry in running.models}
        return tuple(
            ModelReport(
                name=entry.model,
                residency=Residency.WARM if entry.model in warm else Residency.COLD,
                size_bytes=None if entry.size is None else int(entry.size),
                vram_bytes=int(warm[entry.model].size_vram or 0) if entry.model in warm else None,
                context=warm[entry.model].context_length if entry.model in warm else None,
            )
            for entry in listed.models
            if entry.model and not entry.model.endswith((":cloud", "-cloud"))
        )

    async def chat(self, request: ChatRequest) -> ChatReply:
        """See :class:`sidecar.llm.base.Provider`."""
        model = request.model or self._settings.default_model
        if not model:
            raise ModelMissing(self._settings.id, "", tuple(m.name for m in await self.models()))
        needed = max(estimate_tokens(request) + _ANSWER_ROOM_TOKENS, request.context_tokens)
        if needed > self._settings.num_ctx:
            raise PromptTooLong(model, needed, self._settings.num_ctx)
        return await patiently(lambda: self._ask(request, model), timeout_s=request.timeout_s)

    async def _ask(self, request: ChatRequest, model: str) -> ChatReply:
        started = now_s()
        text: list[str] = []
        calls: list[ToolCall] = []
        last: ollama.ChatResponse | None = None
        try:
            stream = await self._client.chat(**self._parameters(request, model))
            try:
                async for part in stream:
                    text.append(part.message.content or "")
                    for call in part.message.tool_calls or ():
                        calls.append(
                            ToolCall(f"call-{len(calls) + 1}", call.function.name, dict(call.function.arguments))
                        )
                    if part.done:
                        last = part
            finally:
                # Closing the generator closes the connection, which makes the server stop generating at once.
                await stream.aclose()
        except self._response_error as exc:
            raise await self._explained(exc, model) from exc
        except self._transport_errors as exc:
            raise EndpointDown(
                self._settings.id, f"{self._settings.url} broke off or is not there ({cause(exc)})"
            ) from exc
        if last is None:
            raise EndpointDown(self._settings.id, "the answer ended before it was done")
        counted = last.prompt_eval_count or 0
        await self._refuse_truncated(request, model, counted)
        usage = Usage(
            model=model,
            endpoint=self._settings.id,
            input_tokens=counted,
            output_tokens=last.eval_count or 0,
            cost_usd=0.0 if self._settings.is_local else None,
            seconds=(took_s := now_s() - started),
            timing=Timing(
                model_s=took_s,
                load_s=_seconds(last.load_duration) if (last.load_duration or 0) > _COLD_NS else 0.0,
                prefill_s=_seconds(last.prompt_eval_duration),
                decode_s=_seconds(last.eval_duration),
            ),
        )
        return ChatReply(whole_text(text), self._finish(last, calls), usage, tuple(calls))

    def _parameters(self, request: ChatRequest, model: str) -> dict[str, Any]:
        options: dict[str, Any] = {"num_ctx": self._settings.num_ctx, "num_predict": request.max_output_tokens}
        if request.temperature is not None:
            options["temperature"] = request.temperature
        system = [{"role": "system", "content": request.system}] if request.system else []
        return {
            "model": model,
            "messages": [*system, *(_message(m) for m in request.messages)],
            "tools": [
                {
                    "type": "function",
                    "function": {"name": t.name, "description": t.description, "parameters": t.parameters},
                }
                for t in request.tools
            ],
            "stream": True,
            "options": options,
            "keep_alive": KEEP_ALIVE,
        }

    def _finish(self, last: "ollama.ChatResponse", calls: list[ToolCall]) -> Finish:
        if last.done_reason == "length":
            return "length"
        if last.done_reason not in {"stop", None, ""}:
            message = f"model {last.model} gave no answer: {last.done_reason}"
            raise ModelFailed(message)
        return "tool_calls" if calls else "stop"

    async def _refuse_truncated(self, request: ChatRequest, model: str, counted: int) -> None:
        """A count far below our estimate means dropped input, unless the model's real context has room for all."""
        estimate = estimate_tokens(request)
        if counted == 0 or counted >= estimate * _SUSPICIOUS:
            return
        contexts = {report.name: report.context for report in await self.models()}
        context = contexts.get(model) or contexts.get(f"{model}:latest")
        if context is not None and context < estimate:
            raise PromptTooLong(model, estimate, context)

    async def _explained(self, exc: "ollama.ResponseError", model: str) -> Exception:
        if exc.status_code == 404:  # noqa: PLR2004 - HTTP
            return ModelMissing(self._settings.id, model, tuple(m.name for m in await self.models()))
        return self._translated(exc, model)

    def _translated(self, exc: "ollama.ResponseError", model: str) -> Exception:
        status, text = exc.status_code, str(exc.error)
        match status:
            case 429 | 503:
                return EndpointBusy(self._settings.id, text)
            case 401 | 403:
                return EndpointRefused(self._settings.id, text)
            case 400 if "does not support tools" in text:
                return ToolsUnsupported(f"model {model} does not support tools")
            case 400:
                return ModelFailed(f"model {model}: the server refused the request: {text}")
            case -1:
                return EndpointDown(self._settings.id, f"the answer broke off: {text}")
            case _:
                return EndpointDown(self._settings.id, f"HTTP {status}: {text[:300]}")


def _message(message: ChatMessage) -> dict[str, Any]:
    if message.role == "tool":
        return {"role": "tool", "content": message.text, "tool_name": message.tool}
    shaped: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        shaped["tool_calls"] = [{"function": {"name": c.name, "arguments": c.arguments}} for c in message.tool_calls]
    return shaped


def _seconds(nanoseconds: int | None) -> float:
    return (nanoseconds or 0) / 1e9

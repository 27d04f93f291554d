"""Talk to an Ollama server over its own API, which alone can set the context length.

Ollama drops the beginning of a prompt that does not fit and says nothing (ollama#3839): the system prompt and the tools
go first. So ``num_ctx`` is always sent, the prompt is measured before, and the server's own count is compared after.
Another ``num_ctx`` than before makes Ollama load the model anew, so it is one of few sizes, and a larger context that
is loaded already is used as it is (``contexts.py``).
"""

from typing import TYPE_CHECKING, Any, Final

import structlog

from protocol.choice import Effort
from protocol.errors import (
    EndpointBusy,
    EndpointDown,
    EndpointRefused,
    ModelFailed,
    ModelMissing,
    PromptTooLong,
    ToolsUnsupported,
)
from protocol.model import Timing, Usage
from sidecar.errors import PromptCut, ServerFull
from sidecar.llm import effort
from sidecar.llm.base import (
    CONNECT_TIMEOUT_S,
    ChatMessage,
    ChatReply,
    ChatRequest,
    Finish,
    ToolCall,
    answered_by,
    cause,
    estimate_tokens,
    patiently,
    whole_text,
)
from sidecar.llm.config import EndpointSettings
from sidecar.llm.contexts import LEAST_ANSWER, context_for, most_of
from sidecar.llm.flow import Flow, Traffic, is_same
from sidecar.llm.headers import bare
from sidecar.llm.looking import names

if TYPE_CHECKING:
    import ollama  # only its names: the import itself is slow and waits for the first endpoint of this kind

KEEP_ALIVE: Final = "5m"
_FULL: Final = "maximum pending requests exceeded"
"""What Ollama says when OLLAMA_MAX_QUEUE requests wait."""
_COLD_NS: Final = 100_000_000
"""A load that took longer was one; a warm model reports a millisecond or two."""
_SUSPICIOUS: Final = 0.5
"""The server counted less than this part of our estimate: ask what context the model really got."""

log = structlog.get_logger(__name__)


class OllamaProvider:
    """Chat with the models of one Ollama server."""

    def __init__(self, settings: EndpointSettings, traffic: Traffic | None = None) -> None:
        import httpx
        import ollama

        self._settings = settings
        self._traffic = traffic or Traffic(settings.id, stall_s=settings.stall_s)
        self._most: dict[str, int | None] = {}  # tokens that a model can take, as the server says
        self._loaded: set[str] = set()  # models that were not in memory when we asked for them
        self._ahead: set[str] = set()  # models that were loaded ahead of their work, and not used since
        # Errors of the transport pass through the client unchanged; a broken line is a JSON error, a line that is no
        # answer a validation error of pydantic, which is a ValueError too.
        self._transport_errors = (httpx.HTTPError, httpx.InvalidURL, ConnectionError, ValueError)
        self._response_error = ollama.ResponseError
        headers = {"authorization": f"Bearer {settings.api_key}"} if settings.api_key else None
        # No timeout of the transport here: a cold model may load for minutes. The flow judges silence.
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

    async def chat(self, request: ChatRequest) -> ChatReply:
        """See :class:`sidecar.llm.base.Provider`."""
        model = request.model or self._settings.default_model
        if not model:
            raise ModelMissing(self._settings.id, "", await names(self._settings))
        return await patiently(lambda: self._ask(request, model), timeout_s=request.timeout_s)

    async def _ask(self, request: ChatRequest, model: str) -> ChatReply:
        flow = self._traffic.begin(request, model)
        self._ahead.discard(model)
        try:
            async with flow.watched():
                context = await self._context(request, model, flow)
                await self._unload([name for name in request.unload if name != model])
                answer = await self._read(request, model, context, flow)
                flow.is_whole = True
        except self._response_error as exc:
            raise await self._explained(exc, model) from exc
        except self._transport_errors as exc:
            raise EndpointDown(
                self._settings.id, f"{self._settings.url} broke off or is not there ({cause(exc)})"
            ) from exc
        last = answer.last
        if last is None:
            raise EndpointDown(self._settings.id, "the answer ended before it was done")
        await self._refuse_cut(request, model, last, context)
        reply = ChatReply(
            whole_text(answer.text),
            self._finish(last, answer.calls),
            self._usage(last, model, flow),
            tuple(answer.calls),
        )
        self._traffic.measured(model, reply.usage)
        return reply

    async def _read(self, request: ChatRequest, model: str, context: int, flow: Flow) -> "_Answer":
        answer = _Answer()
        stream = await self._client.chat(**self._parameters(request, model, context))
        try:
            async for part in stream:
                answer.take(part, flow)
        finally:
            # Closing the generator closes the connection, which makes the server stop generating at once.
            await stream.aclose()
        return answer

    # --- memory -------------------------------------------------------------------------------------------------------

    async def _context(self, request: ChatRequest, model: str, flow: Flow) -> int:
        """The context length to ask for; tells ``flow`` if the model has to be loaded.

        Raises:
            PromptTooLong: the prompt does not fit what may be asked for.
        """
        loaded = next((entry for entry in (await self._client.ps()).models if is_same(entry.model, model)), None)
        if loaded is None:
            self._loaded.add(model)
            found = self._traffic.has(model)
            flow.must_load(found.size_bytes if found is not None else None)
        prompt = estimate_tokens(request)
        wish = max(prompt + request.max_output_tokens, request.context_tokens)
        most = self._settings.num_ctx or most_of(await self._most_of(model))
        if self._settings.num_ctx:
            chosen = most if prompt + LEAST_ANSWER <= most else None
        else:
            chosen = context_for(prompt, wish, most=most, loaded=loaded.context_length if loaded else None)
        if chosen is None:
            raise PromptTooLong(model, prompt + LEAST_ANSWER, most)
        return chosen

    async def _most_of(self, model: str) -> int | None:
        """The context that the model can take; asked once, ``None`` if the server does not tell."""
        if model not in self._most:
            try:
                facts = (await self._client.show(model)).modelinfo or {}
            except self._response_error:
                return None  # what is wrong with the model, the request itself will tell
            found = [value for name, value in facts.items() if name.endswith(".context_length")]
            self._most[model] = int(found[0]) if found and isinstance(found[0], int | float) else None
        return self._most[model]

    async def load(self, model: str, *, context: int, keep_alive_s: float) -> bool:
        """See :class:`sidecar.llm.base.Loader`."""
        if self._traffic.uses(model):
            return False
        request = ChatRequest(messages=(), context_tokens=context, keep_alive_s=keep_alive_s, model=model)
        try:
            flow = self._traffic.begin(request, model)
            asked = self._parameters(request, model, await self._context(request, model, flow))
            if was_cold := flow.is_loading:
                self._ahead.add(model)  # one that was there already is not ours to have leave
            async with flow.watched():
                await self._client.chat(**asked | {"stream": False})
        except self._response_error as exc:
            raise await self._explained(exc, model) from exc
        except self._transport_errors as exc:
            raise EndpointDown(self._settings.id, f"{self._settings.url}: {cause(exc)}") from exc
        return was_cold

    async def unload(self, model: str) -> None:
        """See :class:`sidecar.llm.base.Loader`."""
        if model not in self._ahead or self._traffic.uses(model):
            return
        self._ahead.discard(model)
        try:
            await self._unload([model])
        except self._transport_errors as exc:
            raise EndpointDown(self._settings.id, f"{self._settings.url}: {cause(exc)}") from exc

    async def unload_ours(self) -> None:
        """See :class:`sidecar.llm.base.Loader`."""
        names, self._loaded = sorted(self._loaded), set()
        try:
            await self._unload(names)
        except self._transport_errors as exc:
            raise EndpointDown(self._settings.id, f"{self._settings.url}: {cause(exc)}") from exc

    async def _unload(self, models: list[str]) -> None:
        """Have models leave memory. One that is in use stays until its answer is done: Ollama sees to that."""
        for name in models:
            try:
                await self._client.chat(model=name, messages=[], keep_alive=0)
            except self._response_error as exc:
                log.info("unload_refused", endpoint=self._settings.id, model=name, why=str(exc))

    # --- the answer ---------------------------------------------------------------------------------------------------

    def _usage(self, last: "ollama.ChatResponse", model: str, flow: Flow) -> Usage:
        return Usage(
            model=answered_by(self._settings.id, model, last.model),
            endpoint=self._settings.id,
            input_tokens=last.prompt_eval_count or 0,
            output_tokens=last.eval_count or 0,
            cost_usd=0.0 if self._settings.is_local else None,
            seconds=flow.took_s,
            timing=Timing(
                model_s=flow.took_s,
                load_s=_seconds(last.load_duration) if (last.load_duration or 0) > _COLD_NS else 0.0,
                prefill_s=_seconds(last.prompt_eval_duration),
                decode_s=_seconds(last.eval_duration),
                queue_s=_waited_s(last),
            ),
        )

    def _parameters(self, request: ChatRequest, model: str, context: int) -> dict[str, Any]:
        options: dict[str, Any] = {"num_ctx": context, "num_predict": request.max_output_tokens}
        think = {"think": effort.ollama(model)} if request.effort is Effort.HIGH else {}
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
            **think,
            **({"format": request.schema} if request.schema is not None else {}),
            "keep_alive": KEEP_ALIVE if request.keep_alive_s is None else request.keep_alive_s,
        }

    def _finish(self, last: "ollama.ChatResponse", calls: list[ToolCall]) -> Finish:
        if last.done_reason == "length":
            return "length"
        if last.done_reason not in {"stop", None, ""}:
            message = f"model {last.model} gave no answer: {last.done_reason}"
            raise ModelFailed(message)
        return "tool_calls" if calls else "stop"

    async def _refuse_cut(self, request: ChatRequest, model: str, last: "ollama.ChatResponse", context: int) -> None:
        """Refuse the answer to half a prompt, and half an answer for want of context.

        Raises:
            PromptCut: the server counts far less than we estimate, and the context that it really has tells why.
            PromptTooLong: the answer ran into the end of the context.
        """
        counted, written = last.prompt_eval_count or 0, last.eval_count or 0
        if last.done_reason == "length" and written < request.max_output_tokens and counted + written >= context - 1:
            raise PromptTooLong(model, counted + request.max_output_tokens, context)
        estimate = estimate_tokens(request)
        if counted == 0 or counted >= estimate * _SUSPICIOUS:
            return
        entry = next((entry for entry in (await self._client.ps()).models if is_same(entry.model, model)), None)
        real = (entry.context_length if entry else None) or context
        if real < estimate:
            raise PromptCut(model, estimate, counted, real)

    async def _explained(self, exc: "ollama.ResponseError", model: str) -> Exception:
        if exc.status_code == 404:  # noqa: PLR2004 - HTTP
            return ModelMissing(self._settings.id, model, await names(self._settings))
        return self._translated(exc, model)

    def _translated(self, exc: "ollama.ResponseError", model: str) -> Exception:
        status, text = exc.status_code, str(exc.error)
        match status:
            case 429 | 503:
                return (ServerFull if _FULL in text else EndpointBusy)(self._settings.id, text)
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


class _Answer:
    """An answer that arrives in lines; ``last`` is the one that says it is whole."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.calls: list[ToolCall] = []
        self.last: ollama.ChatResponse | None = None

    def take(self, part: "ollama.ChatResponse", flow: Flow) -> None:
        """Add one line."""
        message = part.message
        if message.thinking:
            flow.take(message.thinking, is_shown=False)
        for call in message.tool_calls or ():
            self.calls.append(
                ToolCall(f"call-{len(self.calls) + 1}", call.function.name, dict(call.function.arguments))
            )
            flow.take(f"{call.function.name} {call.function.arguments}", is_shown=False)
        if message.content:
            self.text.append(message.content)
            flow.take(message.content)
        if part.done:
            self.last = part


def _message(message: ChatMessage) -> dict[str, Any]:
    if message.role == "tool":
        return {"role": "tool", "content": message.text, "tool_name": message.tool}
    shaped: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        shaped["tool_calls"] = [{"function": {"name": c.name, "arguments": c.arguments}} for c in message.tool_calls]
    return shaped


def _waited_s(last: "ollama.ChatResponse") -> float | None:
    """What the request waited for a turn: Ollama's total has it, and none of its parts."""
    if not last.total_duration:
        return None
    parts = last.load_duration, last.prompt_eval_duration, last.eval_duration
    return _seconds(max(0, last.total_duration - sum(part or 0 for part in parts)))


def _seconds(nanoseconds: int | None) -> float:
    return (nanoseconds or 0) / 1e9

"""One shape for a conversation with any model, and the errors every provider speaks.

Holds what executors and providers share: requests, replies, tool calls, the size estimate, and the patience with which
a busy endpoint is asked again. Knows no protocol and no client library; those live beside it, one module a kind.
"""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Protocol, runtime_checkable

import structlog
from msgspec import structs

from protocol.choice import Effort
from protocol.errors import BudgetSpent, EndpointBusy, EndpointDown, EndpointRefused
from protocol.loads import Answering
from protocol.model import Usage
from protocol.prices import Price
from sidecar.core.mending import Unmendable, mended
from sidecar.errors import EndpointStalled, ServerFull

CONNECT_TIMEOUT_S: Final = 5.0
SILENCE_TIMEOUT_S: Final = 120.0
"""How long a hosted API may send nothing before its stream counts as dead; they send pings while a model thinks."""

TRIES: Final = 3
LONGEST_WAIT_S: Final = 10.0
"""The client libraries obey any ``Retry-After``, an hour too, and would sleep the budget away. What asks for longer
than this goes back to the queue, where another endpoint may take it; so their own retries are switched off."""
FIRST_WAIT_S: Final = 0.2
FIRST_FULL_WAIT_S: Final = 0.25
"""Before a server that is full is asked again: its next answer has to end first."""

_BYTES_PER_TOKEN: Final = 3.5
_TOKENS_PER_MESSAGE: Final = 8

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool that the model may call; ``parameters`` is a JSON schema of an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that the model asks for. ``problem`` says why its arguments could not be read, empty if they could.

    ``signature`` is what the endpoint wants to see again where the conversation goes on with this call.
    """

    id: str
    name: str
    arguments: dict[str, Any]
    problem: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn. Role ``tool`` carries a tool's result: ``call_id`` and ``tool`` name the call it answers."""

    role: Literal["user", "assistant", "tool"]
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    tool: str = ""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a model is asked.

    ``model`` empty: the endpoint's default. ``temperature`` is a wish: not every API takes one; ``effort``
    is one too, but a model that cannot refuses it (``effort.py``). ``context_tokens`` is
    what the whole conversation will probably need, so that a model is loaded once with room for all of it; it is a wish
    too, and a prompt that does not fit is refused. ``keep_alive_s`` is how long the model should stay in memory
    (negative: for ever; ``None``: as usual), ``unload`` names models that should go before. ``timeout_s`` bounds the
    whole answer. ``price`` counts before all others; ``is_bounded``: a budget in dollars has to be kept. ``schema`` is
    a wish too: the answer is to be JSON of it, where the server can hold it to that. ``on_text``
    hears what the model says as it comes; ``on_flow`` is given a way to ask how the answer comes along, and ``None``
    when there is none any more.
    """

    messages: tuple[ChatMessage, ...]
    system: str = ""
    tools: tuple[ToolSpec, ...] = ()
    model: str = ""
    max_output_tokens: int = 4096
    temperature: float | None = None
    effort: Effort = Effort.NORMAL
    context_tokens: int = 0
    keep_alive_s: float | None = None
    unload: tuple[str, ...] = ()
    timeout_s: float = 300.0
    price: Price | None = None
    is_bounded: bool = False
    schema: Mapping[str, Any] | None = None
    on_text: Callable[[str], None] = lambda _text: None
    on_flow: Callable[[Callable[[], Answering] | None], None] = lambda _ask: None


Finish = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class ChatReply:
    """A whole answer. ``usage.input_tokens`` includes the cached ones, whatever the endpoint's own count does."""

    text: str
    finish: Finish
    usage: Usage
    tool_calls: tuple[ToolCall, ...] = ()


class Provider(Protocol):
    """Something that answers chat requests."""

    async def chat(self, request: ChatRequest) -> ChatReply:
        """The model's whole answer.

        Raises:
            EndpointDown: no answer, or one that broke off (``EndpointBusy``, ``EndpointRefused`` where it said so) or
                came to a halt (``EndpointStalled``).
            ModelFailed: the endpoint works, this request got no usable answer; ``PromptTooLong``: for want of context.
            BudgetSpent: ``timeout_s`` went by.
        """

    async def close(self) -> None:
        """Close its connections."""


@runtime_checkable
class Loader(Protocol):
    """A provider whose server loads models when it is told to."""

    async def unload_ours(self) -> None:
        """Have all models leave memory that were loaded for us.

        Raises:
            EndpointDown: the server does not answer.
        """

    async def load(self, model: str, *, context: int, keep_alive_s: float) -> bool:
        """Have the model loaded with so many tokens of context; whether that was needed.

        Raises:
            WorkFailed: it is not there, has no room, or the server is away.
        """

    async def unload(self, model: str) -> None:
        """Have the model leave, unless it is in use or was used since it was loaded ahead."""


def now_s() -> float:
    """Seconds on the running loop's clock: only differences mean anything, and a simulated loop brings its own."""
    return asyncio.get_running_loop().time()


def cause(exc: Exception) -> str:
    """What an error of a client library says, or its name if it says nothing."""
    return str(exc) or type(exc).__name__


def estimate_tokens(request: ChatRequest) -> int:
    """About how many tokens the prompt has: rather too many, as English has 4 bytes a token and code about 3."""
    size = len(request.system.encode("utf-8", "replace"))
    for message in request.messages:
        size += len(message.text.encode("utf-8", "replace"))
        size += sum(len(json.dumps(call.arguments)) + len(call.name) for call in message.tool_calls)
    for tool in request.tools:
        size += len(tool.name) + len(tool.description) + len(json.dumps(tool.parameters))
    return math.ceil(size / _BYTES_PER_TOKEN) + _TOKENS_PER_MESSAGE * (len(request.messages) + 1)


def answered_by(endpoint: str, asked: str, said: str | None) -> str:
    """The model that an answer counts for: the one asked for, also under its dated or prefixed name, else what it says.

    A server of a single model answers whatever name it is asked for; the result must not claim that name.
    """
    if not said or said.startswith(asked) or asked.startswith(said) or said.endswith(f"/{asked}"):
        return asked
    log.warning("other_model_answered", endpoint=endpoint, asked=asked, answered=said[:200])
    return said[:200]


def whole_text(pieces: Sequence[str]) -> str:
    """The text that came in ``pieces``, as valid Unicode: a character may be cut in two by a piece's end."""
    return "".join(pieces).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def whole_call(call: ToolCall) -> ToolCall:
    """The call as valid Unicode: JSON can name half a character, which no file, no wire and no program takes."""
    said = json.dumps([call.id, call.name, call.arguments, call.problem], ensure_ascii=False)
    if (whole := whole_text([said])) == said:
        return call
    id_, name, arguments, problem = json.loads(whole)
    return replace(call, id=id_, name=name, arguments=arguments, problem=problem)


def joined_turns(
    messages: Sequence[ChatMessage], shaped: Callable[[ChatMessage], list[dict[str, Any]]]
) -> list[tuple[Literal["user", "assistant"], list[dict[str, Any]]]]:
    """The conversation as turns of two sides, for the APIs that want the results of one turn's calls in one message.

    Args:
        shaped: the parts of a message in the API's words; a message without any is left out.
    """
    turns: list[tuple[Literal["user", "assistant"], list[dict[str, Any]]]] = []
    for message in messages:
        side: Literal["user", "assistant"] = "assistant" if message.role == "assistant" else "user"
        parts = shaped(message)
        if turns and turns[-1][0] == side:
            turns[-1][1].extend(parts)
        elif parts:
            turns.append((side, parts))
    return turns


def read_arguments(text: str) -> tuple[dict[str, Any], str]:
    """The arguments of a tool call that came as JSON text, and what is wrong with them (empty: nothing).

    Mistakes that leave no doubt are mended (:mod:`sidecar.core.mending`).
    """
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError) as exc:
        try:
            value, end = mended(text)
        except Unmendable:
            return {}, f"the arguments are not valid JSON: {exc}"
        if text[end:].strip(" \t\r\n,;]})"):
            return {}, f"the arguments are not valid JSON: {exc}"
    if not isinstance(value, dict):
        return {}, "the arguments must be a JSON object"
    return value, ""


@dataclass(slots=True)
class PartialCall:
    """A tool call whose arguments arrive in pieces of JSON text."""

    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)

    def whole(self) -> ToolCall:
        """The call once all pieces are here."""
        arguments, problem = read_arguments("".join(self.pieces))
        return ToolCall(self.id, self.name, arguments, problem)


async def patiently(
    ask: Callable[[], Awaitable[ChatReply]], *, timeout_s: float, full_wait_s: float = FIRST_FULL_WAIT_S
) -> ChatReply:
    """The first whole answer of up to three tries, all within ``timeout_s``.

    Asks again when the endpoint is busy or broke off, after the wait it names (at most 10 s, else not at all). A server
    of ours that is full is waited for as long as there is time, ``full_wait_s`` first, then twice as long: that is no
    try, as it has done nothing yet.

    Raises:
        EndpointDown: the last try failed too, or asking again is no use, or the time went by in the queue.
        BudgetSpent: the time went by.
    """
    started, queued_s, tries, refusals = now_s(), 0.0, 1, 0
    full: EndpointDown | None = None
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    return _with_wait(await ask(), queued_s)
                except EndpointDown as exc:
                    is_full = isinstance(exc, ServerFull)
                    full = exc if is_full else None
                    refusals, tries = (refusals + 1, tries) if is_full else (refusals, tries + 1)
                    patience_s = min(LONGEST_WAIT_S, full_wait_s * 2.0 ** min(refusals - 1, 30))
                    wait_s = patience_s if is_full else _wait_s(exc, tries - 1)
                    if tries > TRIES or wait_s is None or now_s() - started + wait_s >= timeout_s:
                        raise
                    log.warning("llm_retry", endpoint=exc.endpoint, code=exc.code, wait_s=wait_s, tries=tries)
                    await asyncio.sleep(wait_s)
                    queued_s += wait_s if is_full else 0.0
    except TimeoutError as exc:
        if full is not None and 2 * queued_s >= timeout_s:
            raise full from exc  # the time went by in the queue: another server may have a turn
        raise BudgetSpent("seconds for one model answer", timeout_s, now_s() - started) from exc


def _with_wait(reply: ChatReply, queued_s: float) -> ChatReply:
    """The answer, with the time that it took until the server took the request."""
    timing = reply.usage.timing
    if not queued_s or timing is None:
        return reply
    timing = structs.replace(timing, model_s=timing.model_s + queued_s, queue_s=(timing.queue_s or 0.0) + queued_s)
    return replace(reply, usage=structs.replace(reply.usage, timing=timing))


def _wait_s(exc: EndpointDown, number: int) -> float | None:
    if isinstance(exc, EndpointRefused | EndpointStalled):
        return None  # a stall has taken minutes already: another endpoint may be quicker
    asked_s = exc.retry_after_s if isinstance(exc, EndpointBusy) else None
    wait_s = FIRST_WAIT_S * 2 ** (number - 1) if asked_s is None else asked_s
    return wait_s if wait_s <= LONGEST_WAIT_S else None

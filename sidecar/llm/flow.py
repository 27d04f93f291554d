"""One answer on its way: how far it has come, whether it still moves, and when it has become too long.

Progress decides, never age: an answer may take hours as long as something comes. Between two pieces the endpoint's
``stall_s`` may pass. Before the first one more is allowed, as a server that loads a model or reads a prompt says
nothing: what a slow disk needs for the weights, and a slow machine for the prompt. Whoever waits behind other requests
of ours at the same server is not stalled while those move. Callers: the providers, one :class:`Flow` a try.
"""

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator
from typing import Final

from protocol.endpoints import ModelReport
from protocol.listing import Listed
from protocol.loads import Answering, AnswerPhase
from protocol.model import Timing, Usage
from sidecar.errors import AnswerEndless, EndpointStalled
from sidecar.llm.base import ChatRequest, estimate_tokens, now_s

SLOWEST_LOAD: Final = 50e6
"""Bytes of weights a second that the slowest disk delivers: a USB stick, or a network share."""
SLOWEST_READING: Final = 5.0
"""Prompt tokens a second, before this server was measured: an 8B model on two old cores."""
MEASURED_SHARE: Final = 0.25
"""Share of its measured speed that a server may fall to before it counts as stalled."""
UNKNOWN_BYTES: Final = 10e9
_TELLING_TOKENS: Final = 256
"""A prompt with fewer new tokens tells nothing of the pace: the rest is overhead."""
_ARM_AGAIN_S: Final = 0.5
_LEAST_PIECES: Final = 1_024
_LEAST_CHARS: Final = 32_768
_CHARS_PER_TOKEN: Final = 32
"""More than any tokenizer packs into one token on average."""


class Traffic:
    """The requests of ours that one server works on, and what is known of its pace."""

    def __init__(self, endpoint: str, *, stall_s: float) -> None:
        self.endpoint, self.stall_s = endpoint, stall_s
        self.reading: dict[str, float] = {}
        """Prompt tokens a second, by model, as measured last."""
        self.listed = Listed(())
        """What the server has, as it was last looked at."""
        self.first: dict[str, float] = {}
        """Seconds to the first piece for each token of the prompt, by model, with no other request of ours beside."""
        self._flows: weakref.WeakSet[Flow] = weakref.WeakSet()

    def begin(self, request: ChatRequest, model: str) -> "Flow":
        """A flow for one try of a request."""
        flow = Flow(self, request, model, is_alone=not any(other.is_open for other in self._flows))
        self._flows.add(flow)
        return flow

    def measured(self, model: str, usage: Usage) -> None:
        """An answer tells how fast the prompt was read."""
        tokens = usage.input_tokens - usage.cached_input_tokens
        if usage.timing is not None and usage.timing.prefill_s > 0 and tokens >= _TELLING_TOKENS:
            self.reading[model] = tokens / usage.timing.prefill_s

    def uses(self, model: str) -> bool:
        """Whether a request of ours is at the model."""
        return any(flow.is_open and flow.model == model for flow in self._flows)

    def loads(self, model: str) -> bool:
        """Whether a request of ours waits for the model to be loaded."""
        return any(flow.is_open and flow.is_loading and is_same(model, flow.model) for flow in self._flows)

    def has(self, model: str) -> ModelReport | None:
        """What is known of a model of the server; nothing before the first look at it."""
        return next((report for report in self.listed.models if is_same(report.name, model)), None)

    def moved(self, mover: "Flow") -> None:
        """Something came for one of the requests: the others may be waiting behind it."""
        for flow in self._flows:
            if flow is not mover and flow.is_open and flow.tokens == 0:
                flow.arm()


def is_same(found: str | None, wanted: str) -> bool:
    """Whether two names mean one model: to Ollama, one without a tag is ``latest``."""
    return found in {wanted, f"{wanted}:latest"}


class Flow:
    """One try of one request.

    Attributes:
        model: who is asked.
        tokens: pieces that have come.
        is_whole: nothing more is to come; set by the provider.
        first_s, last_s: seconds from the beginning to the first and the last of them; ``None``: none has.
    """

    def __init__(self, traffic: Traffic, request: ChatRequest, model: str, *, is_alone: bool = True) -> None:
        self._traffic, self._request, self.model, self._is_alone = traffic, request, model, is_alone
        self._phase, self._read = AnswerPhase.READING, None  # type: tuple[AnswerPhase, float | None]
        self._began_at = self._heard_at = self._armed_at = now_s()
        self._load_bytes = 0.0
        self._limit: asyncio.Timeout | None = None
        self._chars = 0
        self._has_shown = False
        self.is_whole = False
        self.tokens = 0
        self.first_s: float | None = None
        self.last_s: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the answer is being waited for."""
        return self._limit is not None

    @property
    def is_loading(self) -> bool:
        """Whether the model was not in memory, and nothing has come since."""
        return self._phase is AnswerPhase.LOADING

    def waited_s(self) -> float | None:
        """What it waited for a turn, as far as the first piece tells: beyond twice what it takes without others.

        ``None``: nothing has come, the model was loaded, or it was not measured without others yet. For servers that do
        not tell themselves.
        """
        if self.first_s is None or self._load_bytes:
            return None
        per_token = self.first_s / estimate_tokens(self._request)
        if self._is_alone:
            self._traffic.first[self.model] = per_token
            return 0.0
        alone = self._traffic.first.get(self.model)
        return None if alone is None else max(0.0, self.first_s * (1 - min(1.0, 2 * alone / per_token)))

    @property
    def took_s(self) -> float:
        """Seconds since it began."""
        return now_s() - self._began_at

    @property
    def allowance_s(self) -> float:
        """How long it may be silent from now on."""
        allowed = self._traffic.stall_s
        if self._phase is AnswerPhase.LOADING:
            allowed += self._load_bytes / SLOWEST_LOAD
        if self._phase is not AnswerPhase.WRITING:
            measured = self._traffic.reading.get(self.model)
            pace = SLOWEST_READING if measured is None else measured * MEASURED_SHARE
            allowed += estimate_tokens(self._request) * (1 - (self._read or 0.0)) / pace
        return allowed

    def timing(self) -> Timing:
        """Where the time went if nobody tells: the first piece ends the reading, the last one the writing."""
        first_s, last_s = self.first_s or 0.0, self.last_s or 0.0
        return Timing(model_s=self.took_s, prefill_s=first_s, decode_s=max(0.0, last_s - first_s))

    def snapshot(self) -> Answering:
        """How it stands."""
        now = now_s()
        return Answering(
            phase=self._phase,
            endpoint=self._traffic.endpoint,
            model=self.model,
            tokens=self.tokens,
            read=self._read,
            seconds=round(now - self._began_at, 1),
            silent_s=round(now - self._heard_at, 1),
        )

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Wait for the answer inside.

        Raises:
            EndpointStalled: nothing came for too long.
        """
        self._request.on_flow(self.snapshot)
        try:
            async with asyncio.timeout(self.allowance_s) as self._limit:
                yield
        except TimeoutError as exc:
            if self._limit is None or not self._limit.expired():
                raise
            silent_s = now_s() - self._heard_at
            raise EndpointStalled(self._traffic.endpoint, self._phase.value, silent_s, self.tokens) from exc
        finally:
            self._limit = None
            self._request.on_flow(None)
            if self._has_shown and not self.is_whole:
                self._request.on_text("\n[the answer broke off here]\n")

    # --- what comes -------------------------------------------------------------------------------------------------

    def must_load(self, size_bytes: float | None) -> None:
        """The model is not in memory; its weights have so many bytes, if that is known."""
        self._phase, self._load_bytes = AnswerPhase.LOADING, size_bytes or UNKNOWN_BYTES
        self.arm()

    def reads(self, share: float) -> None:
        """So much of the prompt was read."""
        if share != self._read:
            self._phase, self._read = AnswerPhase.READING, min(1.0, max(0.0, share))
            self.beat()

    def take(self, text: str, *, is_shown: bool = True) -> None:
        """A piece of the answer has come; ``is_shown``: it is part of what the model says.

        Raises:
            AnswerEndless: it is far beyond what was asked for.
        """
        if not text:
            self.beat()
            return
        first = self._phase is not AnswerPhase.WRITING
        self._phase = AnswerPhase.WRITING
        self.tokens, self._chars = self.tokens + 1, self._chars + len(text)
        self.beat(at_once=first)
        self.last_s = self._heard_at - self._began_at
        if first:
            self.first_s = self.last_s
        most = self._request.max_output_tokens
        if self.tokens > max(_LEAST_PIECES, 2 * most) or self._chars > max(_LEAST_CHARS, _CHARS_PER_TOKEN * most):
            raise AnswerEndless(self.model, most, self.tokens)
        if is_shown:
            self._has_shown = True
            self._request.on_text(text)

    def beat(self, *, at_once: bool = False) -> None:
        """A sign of life."""
        self._heard_at = now_s()
        if at_once or self._heard_at - self._armed_at > _ARM_AGAIN_S:
            self.arm()
            self._traffic.moved(self)

    def arm(self) -> None:
        """Count the silence from now."""
        self._armed_at = now_s()
        if self._limit is not None and not self._limit.expired():
            self._limit.reschedule(self._armed_at + self.allowance_s)

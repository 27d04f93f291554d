"""What to ask an LLM endpoint to learn which models it has, and how to read what it answers.

No connection is opened here: :func:`listing` yields questions and is sent the bodies of the answers, so the hub and the
sidecars ask in the same way, each with a client of its own (``hub/probe.py``, ``sidecar/llm/looking.py``). Answers are
read with suspicion: whoever runs a server may make it say anything, and none of it may grow without bound or end the
reader.
"""

from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from protocol.endpoints import EndpointKind, ModelReport, Residency

MAX_ANSWER_BYTES: Final = 4 << 20
MAX_MODELS: Final = 500
"""Models of one endpoint that count; all of a sidecar's have to fit into a heartbeat."""
MAX_NAME_CHARS: Final = 200
MAX_SHOWN: Final = 8
"""Models that one look asks about one by one; the others are asked about by the next looks."""
_MAX_KNOWN: Final = 4_096
LLAMA_CPP: Final = "llama.cpp"
_MAKERS: Final = {"llamacpp": LLAMA_CPP, "vllm": "vLLM", "organization_owner": "LM Studio"}
"""By the name that the program gives as the owner of its models."""
_WARM: Final = {"loaded": Residency.WARM, "loading": Residency.LOADING, "unloaded": Residency.COLD}

Facts = tuple[int | None, int | None]
"""Of one model: tokens of context that it was made for, and bytes that one of them takes."""


class Odd(ValueError):
    """The answer is not one of this protocol."""


class Ask(Struct, frozen=True):
    """One question: a GET, or a POST if there is a body. An ``optional`` one may fail: then ``None`` is sent."""

    url: str
    body: dict[str, str] | None = None
    optional: bool = False


class Listed(Struct, frozen=True):
    """What an endpoint has; ``parallel`` as in :class:`protocol.endpoints.EndpointReport`, ``remark``: what was odd."""

    models: tuple[ModelReport, ...]
    parallel: int = 0
    remark: str = ""
    maker: str = ""
    """Which program of OpenAI's kind it is, where that can be seen."""


Questions = Generator[Ask, bytes | None, Listed]


def listing(kind: EndpointKind, url: str, known: dict[str, Facts]) -> Questions:
    """Questions to an endpoint, one after the other, and in the end what it has.

    Args:
        kind, url: as people give them: an address of OpenAI's kind ends where ``/models`` begins.
        known: facts by digest, kept by the caller for the next look; grows.
    Raises:
        Odd: the answer is not one of that kind.
    """
    base = url.rstrip("/")
    match kind:
        case EndpointKind.OLLAMA:
            return _ollama(base, known)
        case EndpointKind.OPENAI:
            return _openai(base)
        case EndpointKind.ANTHROPIC:
            return _plain(f"{base}/v1/models?limit=1000", "data", "id")
        case EndpointKind.GEMINI:
            return _gemini(base)


async def asked(questions: Questions, ask: Callable[[Ask], Awaitable[bytes | None]]) -> Listed:
    """What the endpoint has, once ``ask`` has put all questions to it.

    Raises:
        Odd: an answer is not one of its kind. What ``ask`` raises passes through.
    """
    try:
        question = next(questions)
        while True:
            question = questions.send(await ask(question))
    except StopIteration as end:
        listed: Listed = end.value
        return listed


async def bounded(pieces: AsyncIterable[bytes], limit: int = MAX_ANSWER_BYTES) -> bytes:
    """All pieces together.

    Raises:
        Odd: they are more than ``limit`` bytes.
    """
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > limit:
            raise Odd(f"it answers more than {limit:,} bytes")
    return bytes(body)


def headers(kind: EndpointKind, key: str) -> dict[str, str]:
    """How a key is shown to an endpoint of this kind; none if there is none."""
    version = {"anthropic-version": "2023-06-01"} if kind is EndpointKind.ANTHROPIC else {}
    if not key:
        return version
    match kind:
        case EndpointKind.ANTHROPIC:
            return {"x-api-key": key, **version}
        case EndpointKind.GEMINI:
            return {"x-goog-api-key": key}
        case _:
            return {"authorization": f"Bearer {key}"}


# --- kinds ------------------------------------------------------------------------------------------------------------


def _ollama(base: str, known: dict[str, Facts]) -> Questions:
    names = _Names()
    found: list[tuple[ModelReport, str]] = []
    for entry in _entries((yield Ask(f"{base}/api/tags")), "models"):
        name = names.take(entry.get("model") or entry.get("name"))
        if name and not (entry.get("remote_host") or name.endswith((":cloud", "-cloud"))):  # not its own
            report = ModelReport(name=name, size_bytes=_whole(entry.get("size")))
            found.append((report, str(entry.get("digest") or "")))
    loaded = _entries((yield Ask(f"{base}/api/ps")), "models")
    running = {str(entry.get("model") or entry.get("name")): entry for entry in loaded}
    if len(known) > _MAX_KNOWN:
        known.clear()
    for digest, name in [(digest, report.name) for report, digest in found if digest not in known][:MAX_SHOWN]:
        shown = yield Ask(f"{base}/api/show", {"model": name}, optional=True)
        if shown is None:
            break  # it has no time for that now; what it has it has told
        known[digest] = _dimensions(shown)
    models = [
        _loaded(replace(report, max_context=facts[0], kv_bytes_per_token=facts[1]), running.get(report.name))
        for report, digest in found
        for facts in (known.get(digest, (None, None)),)
    ]
    return Listed(tuple(models), remark=names.remark)


def _loaded(report: ModelReport, entry: Mapping[str, Any] | None) -> ModelReport:
    """The model with what ``/api/ps`` says of it."""
    if entry is None:
        return report
    return replace(
        report,
        residency=Residency.WARM,
        resident_bytes=_whole(entry.get("size")),
        vram_bytes=_whole(entry.get("size_vram")),
        context=_whole(entry.get("context_length")),
        expires_at=_moment(entry.get("expires_at")),
    )


def _dimensions(body: bytes) -> Facts:
    """Facts from ``/api/show``: keys and values of every layer, at two bytes a number."""
    info = _object(body).get("model_info")
    if not isinstance(info, dict):
        return None, None
    of = f"{info.get('general.architecture')}."

    def number(name: str) -> int | None:
        return _whole(info.get(of + name))

    context, layers, heads = number("context_length"), number("block_count"), number("attention.head_count")
    kv_heads = number("attention.head_count_kv")
    width = (number("embedding_length") or 0) // heads if heads else 0
    key, value = number("attention.key_length") or width, number("attention.value_length") or width
    kv = 2 * layers * kv_heads * (key + value) if layers and kv_heads and key and value else None
    return context, kv if kv is not None and kv < 1 << 40 else None


def _openai(base: str) -> Questions:
    names = _Names()
    entries = _entries((yield Ask(f"{base}/models")), "data")
    models, parallel = [_hosted(name, entry) for entry in entries if (name := names.take(entry.get("id")))], 0
    makers, root = {str(entry.get("owned_by")) for entry in entries}, base.removesuffix("/v1")
    if "llamacpp" in makers:
        props = _told((yield Ask(f"{root}/props", optional=True)))
        parallel = min(_whole(props.get("total_slots")) or 0, 1_024)
        settings = props.get("default_generation_settings")
        context = _whole(settings.get("n_ctx")) if isinstance(settings, dict) else None
        models = [replace(each, context=context or each.context) for each in models]
    elif "organization_owner" in makers:  # LM Studio says more at an address of its own
        told = _told((yield Ask(f"{root}/api/v0/models", optional=True))).get("data")
        more = {entry.get("id"): entry for entry in told if isinstance(entry, dict)} if isinstance(told, list) else {}
        models = [_of_lm_studio(each, more.get(each.name, {})) for each in models]
    maker = next((name for owner, name in _MAKERS.items() if owner in makers), "")
    return Listed(tuple(models), parallel, names.remark, maker)


def _hosted(name: str, entry: Mapping[str, Any]) -> ModelReport:
    """A model of an OpenAI-compatible server.

    It counts as warm unless the server says otherwise (llama.cpp in router mode does): a hosted model answers at once,
    and a server of a single model has loaded it at its start.
    """
    meta, status = entry.get("meta"), entry.get("status")
    meta = meta if isinstance(meta, dict) else {}
    value = status.get("value") if isinstance(status, dict) else None
    length = _whole(entry.get("max_model_len")) or _whole(entry.get("context_length"))
    return ModelReport(
        name=name,
        residency=_WARM.get(str(value), Residency.WARM),
        size_bytes=_whole(meta.get("size")),
        context=length,
        max_context=_whole(meta.get("n_ctx_train")) or length,
    )


def _of_lm_studio(report: ModelReport, entry: Mapping[str, Any]) -> ModelReport:
    if not entry:
        return report
    is_loaded = entry.get("state") == "loaded"
    return replace(
        report,
        residency=Residency.WARM if is_loaded else Residency.COLD,
        context=_whole(entry.get("loaded_context_length")) if is_loaded else None,
        max_context=_whole(entry.get("max_context_length")),
    )


def _gemini(base: str) -> Questions:
    names = _Names()
    models = []
    for entry in _entries((yield Ask(f"{base}/models?pageSize=1000")), "models"):
        methods = entry.get("supportedGenerationMethods")
        if isinstance(methods, list) and "generateContent" not in methods:
            continue
        if name := names.take(str(entry.get("name") or "").removeprefix("models/")):
            length = _whole(entry.get("inputTokenLimit"))
            models.append(ModelReport(name=name, residency=Residency.WARM, context=length, max_context=length))
    return Listed(tuple(models), remark=names.remark)


def _plain(url: str, key: str, name_key: str) -> Questions:
    names = _Names()
    found = [names.take(entry.get(name_key)) for entry in _entries((yield Ask(url)), key)]
    return Listed(tuple(ModelReport(name=n, residency=Residency.WARM) for n in found if n), remark=names.remark)


# --- reading with suspicion -------------------------------------------------------------------------------------------


class _Names:
    """The names that count: usable, each once, at most so many."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._bad = self._more = 0

    def take(self, name: object) -> str:
        """The name, or nothing if it does not count."""
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
            self._bad += 1
        elif name not in self._taken and len(self._taken) >= MAX_MODELS:
            self._more += 1
        elif name not in self._taken:
            self._taken.add(name)
            return name
        return ""

    @property
    def remark(self) -> str:
        """What was left out, in words.

        Raises:
            Odd: that was all.
        """
        if self._bad and not self._taken:
            raise Odd("none of its models has a usable name")
        return "; ".join(self._remarks())

    def _remarks(self) -> Iterator[str]:
        if self._more:
            yield f"it lists {len(self._taken) + self._more:,} models, the first {MAX_MODELS} count"
        if self._bad:
            yield f"{self._bad:,} of its models have no usable name"


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise Odd("it answers something that is not JSON") from exc
    if not isinstance(found, dict):
        raise Odd(f"it answers a JSON {type(found).__name__} where an object is expected")
    return found


def _told(body: bytes | None) -> dict[str, Any]:
    """The answer to an optional question; empty if it cannot be used."""
    try:
        return _object(body) if body is not None else {}
    except Odd:
        return {}


def _entries(body: bytes | None, key: str) -> list[Mapping[str, Any]]:
    found = _object(body or b"").get(key)
    if not isinstance(found, list):
        raise Odd(f"its answer has no list {key!r}")
    return [entry if isinstance(entry, dict) else {} for entry in found]


def _whole(found: object) -> int | None:
    """A whole number that every peer can read, or none."""
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 1 << 63 else None


def _moment(found: object) -> datetime | None:
    """A time with its zone, to the second; none if it cannot be used."""
    try:
        moment = datetime.fromisoformat(str(found)).replace(microsecond=0)
        return moment if moment.utcoffset() is not None and moment + timedelta(days=1) else None
    except (ValueError, OverflowError):
        return None

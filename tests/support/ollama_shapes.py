"""What the stand-in for Ollama says: its models, its scripted replies, and the JSON that the real server makes of them.

Pure. Fields that are zero are left out where the real server leaves them out, and times are written as Go writes them.
"""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final

BYTES_PER_TOKEN: Final = 4
FOREVER_S: Final = 292 * 365.25 * 86_400
"""What a negative ``keep_alive`` becomes: the longest duration that Go knows, far in the 24th century."""
_DURATION: Final = re.compile(r"-?(\d+(\.\d+)?(ns|us|ms|s|m|h))+|0")
_PARTS: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)")
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Model:
    """A model on the server's disk; ``context_tokens`` is the most that it can be loaded with.

    ``remote_host`` makes it one that the server passes on to a cloud. Layers and heads are those of an 8B model; they
    decide what its context takes in memory.
    """

    name: str
    context_tokens: int = 32_768
    tools: bool = True
    size_bytes: int = 5_200_000_000
    layers: int = 36
    kv_heads: int = 8
    head_length: int = 128
    remote_host: str = ""
    thinking: bool = True

    @property
    def digest(self) -> str:
        """64 hex digits that no other name has."""
        return self.name.encode().hex().ljust(64, "0")[:64]

    @property
    def kv_bytes_per_token(self) -> int:
        """Memory of one token of context: keys and values of all layers, two bytes a number."""
        return self.layers * self.kv_heads * 2 * self.head_length * 2


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server does with one request.

    ``when``: only for requests whose text contains this; ``model``: only for this one. ``repeat``: stays in the script
    after use. ``status`` with ``error``: an HTTP error instead of an answer. ``fail_midway``: it breaks off with
    an error line; ``drop_midway``: it just ends; ``cut_midway``: the socket is cut. ``hold``: the rest of the answer
    waits until this is set.
    """

    text: str = ""
    tool_calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    done_reason: str = "stop"
    when: str = ""
    model: str = ""
    repeat: bool = False
    status: int = 200
    error: str = ""
    fail_midway: str = ""
    drop_midway: bool = False
    cut_midway: bool = False
    hold: asyncio.Event | None = None


Script = Callable[[dict[str, Any]], Reply]


def read_script(text: str) -> list[Reply]:
    """Replies from JSON: a list of objects with the fields of :class:`Reply` (``tool_calls``: ``[[name, arguments]]``).

    Raises:
        ValueError: it is no such list.
    """
    known = {entry.name for entry in fields(Reply)} - {"hold"}
    replies = []
    for entry in json.loads(text):
        unknown = set(entry) - known
        if unknown:
            message = f"unknown fields {sorted(unknown)}; known: {sorted(known)}"
            raise ValueError(message)
        calls = tuple((name, arguments) for name, arguments in entry.get("tool_calls", ()))
        replies.append(Reply(**(entry | {"tool_calls": calls})))
    return replies


def keep_alive_s(wish: object, default: float) -> float:
    """Seconds that a model stays after a request that wishes so.

    Numbers are seconds, texts durations of Go; what is below zero is for ever, nothing is the server's own default.

    Raises:
        ValueError: it is no duration; the text is the server's.
    """
    if wish is None:
        return default
    if isinstance(wish, int | float):
        return FOREVER_S if wish < 0 else float(wish)
    text = str(wish)
    if not _DURATION.fullmatch(text):
        message = f'time: invalid duration "{text}"'
        raise ValueError(message)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PARTS.findall(text))
    return FOREVER_S if text.startswith("-") else seconds


def prompt_text(body: dict[str, Any]) -> str:
    """All that a request says, of either kind."""
    said = [str(body.get("system") or ""), str(body.get("prompt") or "")]
    said += [str(message.get("content") or "") for message in body.get("messages") or ()]
    return "\n".join(said)


def prompt_tokens(body: dict[str, Any], context: int) -> int:
    """Tokens that are left of a prompt in a context of that length: what is too much is cut off without a word."""
    if body.get("prompt"):
        return min(len(prompt_text(body)) // BYTES_PER_TOKEN + 1, context)
    return min(len(json.dumps([body.get("messages"), body.get("tools")])) // BYTES_PER_TOKEN, context)


def go_time(moment: datetime) -> str:
    """A moment as Go writes it, with nanoseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "123Z"


def now_text() -> str:
    """The time now, as Go writes it."""
    return go_time(datetime.now(UTC))


def line(body: dict[str, Any], *, done: bool = False, text: str = "", **more: object) -> dict[str, Any]:
    """One line of an answer, in the shape of the request's kind."""
    said = {"message": {"role": "assistant", "content": text}} if is_chat(body) else {"response": text}
    return {"model": body["model"], "created_at": now_text(), **said, "done": done} | more


def is_chat(body: dict[str, Any]) -> bool:
    """Whether the request is a conversation (``/api/chat``), not a prompt (``/api/generate``)."""
    return "prompt" not in body


def final(body: dict[str, Any], reply: Reply, read: int, load_ns: int, waited_ns: int = 0) -> dict[str, Any]:
    """The last line, with its counts; those that are zero are left out."""
    said = len(reply.text) + (len(json.dumps(reply.tool_calls)) if reply.tool_calls else 0)
    wrote = max(1, said // BYTES_PER_TOKEN) if said else 0
    counts = {
        "total_duration": waited_ns + load_ns + 120_000_000 + wrote * 20_000_000,
        "load_duration": load_ns,
        "prompt_eval_count": read,
        "prompt_eval_duration": 120_000_000,
        "eval_count": wrote,
        "eval_duration": wrote * 20_000_000,
    }
    context = {} if is_chat(body) else {"context": list(range(min(read + wrote, 8)))}
    return line(body, done=True, done_reason=reply.done_reason) | context | {n: c for n, c in counts.items() if c}


def whole(body: dict[str, Any], reply: Reply, read: int, load_ns: int, waited_ns: int = 0) -> dict[str, Any]:
    """The answer to a request that wants no stream."""
    last = final(body, reply, read, load_ns, waited_ns)
    if not is_chat(body):
        return last | {"response": reply.text}
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.tool_calls:
        message["tool_calls"] = [{"function": {"name": n, "arguments": a}} for n, a in reply.tool_calls]
    return last | {"message": message}


def details(model: Model) -> dict[str, Any]:
    """What every listing says of a model's make."""
    return {
        "parent_model": "",
        "format": "gguf",
        "family": "qwen3",
        "families": ["qwen3"],
        "parameter_size": f"{model.size_bytes / 634e6:.1f}B",
        "quantization_level": "Q4_K_M",
    }


def listed(model: Model) -> dict[str, Any]:
    """A model as ``/api/tags`` and, with more, ``/api/ps`` list it."""
    remote = {"remote_model": model.name, "remote_host": model.remote_host} if model.remote_host else {}
    base = {"name": model.name, "model": model.name, "size": model.size_bytes, "digest": model.digest}
    return base | {"details": details(model)} | remote


def shown(model: Model) -> dict[str, Any]:
    """A model as ``/api/show`` tells of it."""
    info = {
        "general.architecture": "qwen3",
        "qwen3.context_length": model.context_tokens,
        "qwen3.block_count": model.layers,
        "qwen3.attention.head_count": 4 * model.kv_heads,
        "qwen3.attention.head_count_kv": model.kv_heads,
        "qwen3.attention.key_length": model.head_length,
        "qwen3.attention.value_length": model.head_length,
    }
    return {
        "modelfile": f"FROM {model.name}",
        "template": "{{ .Prompt }}",
        "details": details(model),
        "model_info": info,
        "tensors": [],
        "capabilities": ["completion", "tools"] if model.tools else ["completion"],
        "modified_at": now_text(),
    }

"""LLM endpoints that nobody lists: those that the environment names, and the usual places of servers on this machine.

Pure: the environment is an argument, and what is wrong with a variable goes to a list of problems, so that all of it is
told at once. Caller: ``sidecar/settings.py``.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from protocol.errors import BadInput, Problem
from protocol.model import EndpointKind
from sidecar.llm.config import EndpointSettings

USUAL_PLACES: Final = {"llamacpp": "127.0.0.1:8080", "lmstudio": "127.0.0.1:1234", "vllm": "127.0.0.1:8000"}
"""Where servers of OpenAI's kind listen if nobody tells them otherwise."""


def endpoints_of(env: Mapping[str, str], problems: list[Problem]) -> Iterator[EndpointSettings]:
    """Endpoints that the environment names, and the places on this machine where such servers usually are."""
    host = env.get("OLLAMA_HOST", "")
    ollama: dict[str, Any] = {"id": "ollama", "kind": EndpointKind.OLLAMA, "url": ollama_url(host), "guessed": not host}
    if host:
        ollama["api_key"] = env.get("OLLAMA_API_KEY", "")
    wanted: list[tuple[str, dict[str, Any]]] = [("OLLAMA_HOST", ollama)]
    if key := env.get("ANTHROPIC_API_KEY"):
        url = env.get("ANTHROPIC_BASE_URL") or "https://api.anthropic.com"
        wanted.append(
            ("ANTHROPIC_API_KEY", {"id": "claude", "kind": EndpointKind.ANTHROPIC, "url": url, "api_key": key})
        )
    if key := env.get("GEMINI_API_KEY") or env.get("GOOGLE_API_KEY"):
        place = env.get("GOOGLE_GEMINI_BASE_URL") or "https://generativelanguage.googleapis.com"
        url = f"{place.rstrip('/')}/v1beta"  # that variable names the server alone
        wanted.append(("GEMINI_API_KEY", {"id": "gemini", "kind": EndpointKind.GEMINI, "url": url, "api_key": key}))
    if (key := env.get("OPENAI_API_KEY")) or env.get("OPENAI_BASE_URL"):
        url = env.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        wanted.append(
            ("OPENAI_BASE_URL", {"id": "openai", "kind": EndpointKind.OPENAI, "url": url, "api_key": key or ""})
        )
    named = " ".join(fields["url"] for _, fields in wanted).replace("localhost", "127.0.0.1")
    for name, place in USUAL_PLACES.items():
        if place not in named:
            guess = {"id": name, "kind": EndpointKind.OPENAI, "url": f"http://{place}/v1", "guessed": True}
            wanted.append((name, guess))
    for variable, fields in wanted:
        try:
            yield EndpointSettings(**fields)
        except BadInput as exc:
            problems += [Problem(variable, problem.problem) for problem in exc.problems]


def ollama_url(host: str) -> str:
    """The address of the Ollama server that ``OLLAMA_HOST`` names, in any of the forms that Ollama takes.

    An address that means "all interfaces" is one to listen on; asked is this machine.
    """
    text = host.strip().rstrip("/")
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port or {"http": 11434, "https": 443}.get(parts.scheme, 11434)
    except ValueError:
        return text
    name = parts.hostname or "127.0.0.1"
    if name in {"0.0.0.0", "::"}:  # noqa: S104 - read, not bound
        name = "127.0.0.1"
    return f"{parts.scheme}://{f'[{name}]' if ':' in name else name}:{port}{parts.path}"

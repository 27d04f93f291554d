"""A small server that speaks Gemini's protocol, for what no ready-made stand-in does.

It answers what a script says, and is as particular as the real one about what it is asked (https://ai.google.dev/api/
generate-content): a key that it does not know is a 400, names that it does not know are one too, the two sides take
turns, every call gets exactly one response, and a call must come back with the signature that it was given.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import msgspec
from aiohttp import web

KEY: Final = "AIza-right"
_BODY: Final = {"contents", "systemInstruction", "tools", "toolConfig", "safetySettings", "generationConfig"}
_GENERATION: Final = {"maxOutputTokens", "temperature", "topP", "topK", "stopSequences", "thinkingConfig", "seed"}
_DETAIL: Final = "type.googleapis.com/google.rpc."

Event = dict[str, Any]


@dataclass(slots=True)
class Raw:
    """An answer byte by byte; ``is_cut``: the connection is closed in the middle of it."""

    body: bytes
    status: int = 200
    content_type: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict)
    is_cut: bool = False


@dataclass(slots=True)
class GeminiServer:
    """The server; ``script``: what it answers, one entry a request, the last one for ever.

    Attributes:
        requests: the bodies of all requests that were let in.
    """

    script: list[list[Event] | Raw] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    _signed: dict[str, str] = field(default_factory=dict)
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/v1beta/models/{model}:streamGenerateContent", self._answer)
        app.router.add_get("/v1beta/models", _models)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1beta"

    async def stop(self) -> None:
        """Close the port and all connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if request.headers.get("x-goog-api-key") != KEY:
            wrong = {"@type": f"{_DETAIL}ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
            return failure(400, "API key not valid. Please pass a valid API key.", wrong)
        if problem := self._problem(body):
            return failure(400, problem)
        self.requests.append(body)
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(answer, list):
            self._sign(answer)
            answer = Raw(stream(answer))
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        response.content_type = answer.content_type
        await response.prepare(request)
        await response.write(answer.body)
        if answer.is_cut and request.transport is not None:
            request.transport.abort()
        return response

    def _sign(self, events: list[Event]) -> None:
        for event in events:
            for candidate in event.get("candidates", ()):
                for part in candidate.get("content", {}).get("parts", ()):
                    if "functionCall" in part and "thoughtSignature" in part:
                        self._signed[part["functionCall"]["name"]] = part["thoughtSignature"]

    def _problem(self, body: dict[str, Any]) -> str:
        unknown = (set(body) - _BODY) | (set(body.get("generationConfig", {})) - _GENERATION)
        if unknown:
            return f'Invalid JSON payload received. Unknown name "{min(unknown)}": Cannot find field.'
        contents = body.get("contents") or []
        if not contents:
            return "* GenerateContentRequest.contents: contents is not specified"
        roles = [content["role"] for content in contents]
        if set(roles) - {"user", "model"} or any(a == b for a, b in pairwise(roles)):
            return "Please ensure that multiturn requests alternate between user and model."
        return self._call_problem(contents)

    def _call_problem(self, contents: list[dict[str, Any]]) -> str:
        for content, after in pairwise(contents):
            calls = [part for part in content["parts"] if "functionCall" in part]
            results = [part["functionResponse"] for part in after["parts"] if "functionResponse" in part]
            if len(calls) != len(results):
                return (
                    "Please ensure that the number of function response parts is equal to the number of function "
                    "call parts of the function call turn."
                )
            for call in calls:
                name = call["functionCall"]["name"]
                if call.get("thoughtSignature") != self._signed.get(name):
                    return f"Function call is missing a thought_signature in functionCall parts: {name}"
        return ""


def stream(events: list[Event]) -> bytes:
    """The events as they come over the wire."""
    return b"".join(b"data: " + msgspec.json.encode(event) + b"\r\n\r\n" for event in events)


def said(*parts: dict[str, Any], finish: str = "STOP", **more: object) -> Event:
    """One event; ``finish`` empty: not the last one."""
    reason = {"finishReason": finish} if finish else {}
    candidate = {"content": {"parts": list(parts), "role": "model"}, "index": 0} | reason
    return {"candidates": [candidate], "modelVersion": "gemini-2.5-flash", "responseId": "r"} | more


def problem(status: int, message: str, *details: dict[str, Any]) -> Event:
    """What it says when it fails."""
    names = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}
    return {"error": {"code": status, "message": message, "status": names[status], "details": list(details)}}


def retry_info(delay: str) -> dict[str, Any]:
    """How it says when to come back."""
    return {"@type": f"{_DETAIL}RetryInfo", "retryDelay": delay}


def failure(status: int, message: str, *details: dict[str, Any]) -> web.Response:
    """An answer that is an error."""
    return web.json_response(problem(status, message, *details), status=status)


async def _models(_: web.Request) -> web.Response:
    both = ["generateContent", "countTokens"]
    return web.json_response(
        {
            "models": [
                {"name": "models/gemini-2.5-flash", "inputTokenLimit": 1_048_576, "supportedGenerationMethods": both},
                {"name": "models/embedding-001", "supportedGenerationMethods": ["embedContent"]},
            ]
        }
    )

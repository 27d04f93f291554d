"""A stand-in for Anthropic's server: the Messages API, whole and streamed, with scripted answers and counted tokens.

Answers only who shows its key, and repeats that key in every text, as some servers do in errors: whoever passes answers
on has to take it out. The shapes are those of Anthropic's reference of the Messages API.
"""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any, Final

KEY: Final = "canary-key-of-the-sidecar-41c7"
USAGE: Final = {"input_tokens": 1_000, "cache_read_input_tokens": 500, "output_tokens": 100}
"""Of every answer. Of claude-sonnet-5 that costs 2, 0.2 (from the cache) and 10 dollars a million."""
COST_USD: Final = (1_000 * 2 + 500 * 0.2 + 100 * 10) / 1e6
LAST: Final = {"type": "text", "text": "Mended."}


class _Claude(http.server.BaseHTTPRequestHandler):
    answers: list[dict[str, Any]]
    """Blocks of content, one an answer that is asked with tools; after them, and without tools, always the same."""
    served: list[str]

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        # A key that does not look like Anthropic's own goes as a bearer token.
        if KEY not in {self.headers["X-Api-Key"], str(self.headers["Authorization"]).removeprefix("Bearer ")}:
            self._whole(401, {"type": "error", "error": {"type": "authentication_error", "message": "no such key"}})
        elif self.path.partition("?")[0].endswith("/count_tokens"):
            self._whole(200, {"input_tokens": 1_000})
        else:
            self.served.append(question["model"])
            block = self.answers.pop(0) if question.get("tools") and self.answers else LAST
            self._answer(question, block)

    def _answer(self, question: dict[str, Any], block: dict[str, Any]) -> None:
        reason = "tool_use" if block["type"] == "tool_use" else "end_turn"
        said = {"id": "msg_1", "type": "message", "role": "assistant", "model": question["model"]}
        if not question.get("stream"):
            text = {"type": "text", "text": f"You are {KEY}. "}
            self._whole(200, {**said, "content": [text, block], "stop_reason": reason, "usage": USAGE})
            return
        begun = {**said, "content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}
        bare = {**block, "input": {}} if block["type"] == "tool_use" else {**block, "text": ""}
        delta = (
            {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            if block["type"] == "tool_use"
            else {"type": "text_delta", "text": block["text"]}
        )
        end = {"output_tokens": USAGE["output_tokens"]}
        self._head(200, "text/event-stream")
        for event in (
            {"type": "message_start", "message": begun},
            {"type": "content_block_start", "index": 0, "content_block": bare},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": end},
            {"type": "message_stop"},
        ):
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())

    def do_GET(self) -> None:
        self._whole(200, {"data": [{"id": "claude-sonnet-5", "type": "model"}], "has_more": False})

    def _head(self, status: int, kind: str, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _whole(self, status: int, said: dict[str, Any]) -> None:
        raw = json.dumps(said).encode()
        self._head(status, "application/json", len(raw))
        self.wfile.write(raw)

    def log_message(self, *_said: object) -> None:
        """Nothing on stderr."""


@contextlib.contextmanager
def claude_server(*answers: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Its address, and the models that were asked, as they are asked."""
    served: list[str] = []
    handler = type("Claude", (_Claude,), {"answers": list(answers), "served": served})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", served
        finally:
            server.shutdown()
            serving.join()

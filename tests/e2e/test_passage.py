"""A task that needs ``llm`` asks a model with its command, from submission to result; the key is found nowhere."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sidecar.sandbox.cell import Level
from tests.support.levels import need
from tests.support.mesh import Mesh

KEY: Final = "canary-key-of-the-sidecar-7f3a"
WORK: Final = """
import os, urllib.request
head = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}
asked = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", b"{}", head)
print(urllib.request.urlopen(asked, timeout=60).read().decode())
"""


class Provider(http.server.BaseHTTPRequestHandler):
    """Says with which key it was asked."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        said = f"asked with {self.headers['Authorization']}".encode()
        self.send_response(200 if KEY in said.decode() else 401)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def do_GET(self) -> None:
        said = b'{"object": "list", "data": [{"id": "m", "object": "model"}]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_said: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def provider() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
        serving.join()


def test_a_command_asks_a_model_and_the_key_is_found_nowhere(tmp_path: Path, provider: str) -> None:
    need(Level.BUBBLEWRAP)
    running = Mesh(tmp_path)
    try:
        running.start_hub()
        asked = {"OPENAI_BASE_URL": provider, "OPENAI_API_KEY": KEY}
        running.start_sidecar("One", "--sandbox-endpoint", "openai", "--sandbox", "bubblewrap", env=asked)
        running.start_sidecar("Two")
        running.wait_agents("One", "Two")
        (done,) = running.wait(running.submit(command=f"python3 -c '{WORK}'", needs=["llm"], max_retries=0))
        (poor,) = running.wait(
            running.submit(
                command=f"python3 -c '{WORK}' && python3 -c '{WORK}'",
                needs=["llm"],
                budget={"tokens": 5},
                max_retries=2,
            )
        )
        (bare,) = running.wait(running.submit(command="env | grep -c OPENAI_", max_retries=0))
    finally:
        running.stop()

    assert done["state"] == "completed", done["result"]
    assert done["attempts"][0]["agent"] == "One"
    assert done["result"]["output"].strip() == "asked with Bearer [secret]"
    # The server tells no tokens, so they are estimated; the second question was not asked any more.
    assert (poor["state"], poor["result"]["error_code"]) == ("failed", "budget_spent")
    assert [attempt["failure"] for attempt in poor["attempts"]] == ["budget"]
    assert poor["result"]["usage"]["output_tokens"] > 0
    assert poor["result"]["usage"]["endpoint"] == "openai"
    assert poor["result"]["output"].count("asked with") == 1
    assert bare["result"]["output"].strip() == "0"
    assert [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []

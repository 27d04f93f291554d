"""A second server of Ollama's API, written by nobody here: ``ollama-proxy-plus`` before an OpenAI-compatible server.

It lists, shows, chats and generates; it knows nothing of memory (``/api/ps`` is always empty, sizes are 0).
"""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_LISTENS: Final = re.compile(r"running on (http://127\.0\.0\.1:\d+)")


@contextlib.contextmanager
def ollama_proxy(folder: Path, backend: str, model: str) -> Iterator[str]:
    """The address of one that offers ``local/<model>`` of the OpenAI-compatible server at ``backend``.

    Args:
        folder: to start it in: it reads settings that lie there.
        backend: with its path (``http://127.0.0.1:1/v1``).
        model: as the backend calls it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"PROVIDERS_LOCAL_BASE_URL": backend, "PROVIDERS_LOCAL_API_KEY": "x", "EXTRA_MODELS": f"local/{model}"}
    command = [sys.executable, "-m", "ollama_proxy", "--host", "127.0.0.1", "--port", "0"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PROVIDERS_", "PROXY_"))}
    with (folder / "ollama-proxy.log").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=subprocess.PIPE, text=True, cwd=folder, env=clean | settings
        )
        assert server.stderr is not None
        try:
            said = ""
            while (found := _LISTENS.search(said)) is None:
                line = server.stderr.readline()
                assert line, f"it has ended: {said}"
                said += line
            yield found[1]
        finally:
            server.terminate()
            server.communicate()

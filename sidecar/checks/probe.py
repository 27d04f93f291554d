"""Start a server, ask it until it answers as it should, end it: the program of the check ``http_ok``.

Run by a bare interpreter inside the sandbox, where server and question share a network of their own:
``python -I -S -c SOURCE COMMAND URL STATUS TEXT SECONDS``. It reads nothing of ours. Exit codes: 0, it answers; 21,
nobody answered; 22, another status; 23, the text is not in the answer; 24, the server ended before. What it has to say
is the last line of its output. The caller is ``sidecar/checks/http.py``.
"""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from urllib.parse import urlsplit

NOBODY, STATUS, TEXT, ENDED = 21, 22, 23, 24
MAX_BYTES = 1 << 20
PAUSE_S = 0.1


def main(command: str, url: str, status: str, text: str, seconds: str) -> int:
    """Ask until it is well, the server has ended, or the time is up."""
    ends = time.monotonic() + float(seconds)
    server = subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        while True:
            code, said = _ask(url, int(status), text, max(0.1, ends - time.monotonic()))
            if code and server.poll() is not None:
                code, said = (
                    ENDED,
                    f"the server ended with exit code {server.returncode} before it answered well: {said}",
                )
            elif code and time.monotonic() < ends:
                time.sleep(PAUSE_S)
                continue
            sys.stdout.write(f"\n{said}\n")
            return code
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)


def _ask(url: str, status: int, text: str, timeout_s: float) -> tuple[int, str]:
    parts = urlsplit(url)
    line = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout_s)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        line.request("GET", path, headers={"Connection": "close", "Accept": "*/*"})
        answer = line.getresponse()
        body = answer.read(MAX_BYTES)
    except (OSError, http.client.HTTPException) as exc:
        return NOBODY, f"{url} does not answer: {exc}"
    finally:
        line.close()
    if answer.status != status:
        return STATUS, f"{url} answers {answer.status}, not {status}"
    if text.encode() not in body:
        return TEXT, f"{url} answers {status} without {text[:100]!r}"
    return 0, f"{url} answers {status}"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:6]))

"""Start a server, ask it until it answers as it should, end it: the program of the check ``http_ok``.

Run by a bare interpreter inside the sandbox, where server and question share a network of their own:
``python -I -S -c SOURCE COMMAND URL STATUS TEXT SECONDS``. It reads nothing of ours. Exit codes: 0, it answers; 21,
nobody answered; 22, another status; 23, the text is not in the answer; 24, the server ended; 25, somebody else is
there already. What it has to say is the last line of its output. The caller is ``sidecar/checks/http.py``.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

NOBODY, STATUS, TEXT, ENDED, TAKEN = 21, 22, 23, 24, 25
MAX_BYTES = 1 << 20
PAUSE_S = 0.1
FREE_S = 3.0
"""How long is waited for a port that a server before has not given back yet."""


def main(command: str, url: str, status: str, text: str, seconds: str) -> int:
    """Ask until it is well, the server has ended, or the time is up."""
    began = time.monotonic()
    ends = began + float(seconds)
    # Where work has the network of the host, others may be servers there: what they answer proves nothing.
    while _is_taken(url):
        if time.monotonic() >= min(ends, began + FREE_S):
            sys.stdout.write(f"\n{url} is taken: something answers there before the server is started\n")
            return TAKEN
        time.sleep(PAUSE_S)  # nobody tells when an address becomes free
    server = subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        while True:
            code, said = _ask(url, int(status), text, max(0.1, ends - time.monotonic()))
            ended = server.poll()
            if ended or (code and ended is not None):  # what goes on in the background leaves with 0
                how = "before it answered well" if code else "so somebody else may have answered"
                code, said = ENDED, f"the server ended with exit code {ended} {how}: {said}"
            elif code and time.monotonic() < ends:
                time.sleep(PAUSE_S)  # as long as it starts, it can only be asked again
                continue
            sys.stdout.write(f"\n{said}\n")
            return code
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)


def _is_taken(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 80), timeout=1.0).close()
    except OSError:
        return False
    return True


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

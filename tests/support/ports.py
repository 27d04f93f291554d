"""Ports for servers that have to be told theirs before they listen, or that come back on the one they had."""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import Final

_FIRST, _LAST = 20_000, 32_000
"""Below those that the kernel gives to whoever does not care (32,768 and up; 49,152 on a Mac): between the question for
a port and the first connection to it, a hub that asked for none in particular could be given the same one."""
_held: Final[list[int]] = []
"""Locked files, open as long as this process lives."""


def free_port() -> int:
    """A port of this machine that nobody listens on, and that no other test is given while this process lives."""
    folder = Path(tempfile.gettempdir(), f"agentcom-test-ports-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    while True:
        port = random.randint(_FIRST, _LAST)
        taken = os.open(folder / str(port), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(taken, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.create_server(("127.0.0.1", port)):
                _held.append(taken)
                return port
        except OSError:  # another test's, or somebody else listens there
            os.close(taken)

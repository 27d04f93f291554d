"""NVIDIA's GPUs, read by a process of its own, so that a driver that hangs, crashes or is replaced costs only them.

Blocks for as long as the driver does: call :meth:`Helper.look` in a thread that may (``sidecar/patience.py``).
"""

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Final

from msgspec import DecodeError, json

from sidecar.gpus.base import Sight

_LIBRARY: Final = "libnvidia-ml.so.1"
_END_S: Final = 1.0
_DECODER: Final = json.Decoder(Sight)


def has_library() -> bool:
    """Whether NVIDIA's library is on this machine; the driver behind it may not be."""
    if sys.platform == "win32":
        return True  # where it lies differs; the reader finds out
    if sys.platform == "darwin":
        return False
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        return False
    return True


class Helper:
    """The process and the pipe to it; started when it is first asked, and again after :meth:`end`.

    Args:
        env: what it may know of our environment: where libraries are, and no key.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = dict(env)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def pid(self) -> int | None:
        """Process id of the helper, if it runs."""
        return self._process.pid if self._process else None

    def look(self) -> Sight:
        """How the GPUs are now.

        Raises:
            OSError: no process can be started.
        """
        process = self._started()
        assert process.stdin is not None, "stdin was asked for as a pipe"
        assert process.stdout is not None, "stdout was asked for as a pipe"
        try:
            os.write(process.stdin.fileno(), b"\n")
            line = process.stdout.readline()
            return _DECODER.decode(line)
        except (BrokenPipeError, ValueError, DecodeError):  # ValueError: end() has closed the pipe meanwhile
            self.end()
            return Sight(trouble=f"the reader died ({process.returncode}), the driver may have killed it")

    def end(self) -> None:
        """End the process; the next look has a new one, with the library and the driver as they are then."""
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            _STUCK.append(process)  # a call into the driver that not even SIGKILL ends; it dies when that returns
            return
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None, "both were asked for as pipes"
            pipe.close()

    def close(self) -> None:
        """End the process for good."""
        self._is_closed = True
        self.end()

    def _started(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._is_closed:
                raise OSError("the sidecar ends")
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-m", "sidecar.gpus.reader"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=self._env,
                )
            return self._process


_STUCK: Final[list[subprocess.Popen[bytes]]] = []
"""Processes that cannot be ended; kept, so that nobody waits for them."""

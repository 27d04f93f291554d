"""A process that looks at NVIDIA's GPUs for the sidecar: a line in, a line out, until the sidecar is gone.

It holds no secret and changes nothing. If a call into the driver never returns, the sidecar goes on without this
process; a thread of it still hears that the sidecar ends, and ends with it. Started by :mod:`sidecar.gpus.helper`.
"""

import os
import queue
import signal
import sys
import threading

from msgspec import json

from sidecar.gpus.base import Sight
from sidecar.gpus.nvidia import Nvidia


def main() -> None:
    """Answer every line with a :class:`~sidecar.gpus.base.Sight` in JSON."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # a service stop reaches us too; the pipe alone tells when to go
    asked: queue.SimpleQueue[None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(asked,), daemon=True).start()
    source: Nvidia | None = None
    while True:
        asked.get()
        try:
            source = source or Nvidia()
            sight = source.look()
        except ImportError as exc:
            sight = Sight(trouble=str(exc))
        sys.stdout.buffer.write(json.encode(sight) + b"\n")
        sys.stdout.buffer.flush()


def _listen(asked: "queue.SimpleQueue[None]") -> None:
    """Pass on each question; without anybody to ask there is nothing left to do, whatever the driver does."""
    while os.read(0, 1):
        asked.put(None)
    os._exit(0)


if __name__ == "__main__":
    main()

"""End this process when the one that started it is gone, even if that one was killed and could not say so.

The starter keeps the other end of our standard input open and never writes to it; the kernel closes it when the starter
dies, on every Unix. ``agentcom/household.py`` gives the hidden flag to the hub and the sidecars of ``agentcom up``.
"""

import os
import signal
import sys
import threading
from typing import Final

import click

WITH_PARENT: Final = "--with-parent"


def _watch(_ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click calls it
    if value:
        threading.Thread(target=_until_closed, name="with-parent", daemon=True).start()


def _until_closed() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


with_parent = click.option(
    WITH_PARENT, is_flag=True, hidden=True, expose_value=False, callback=_watch, help="End when standard input closes."
)

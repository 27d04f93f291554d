"""What makes processes start sooner: no look for cycles, and no library that nobody asks for.

What is imported stays, so there are no cycles to find. The collector would walk through every module, class and
function again and again while they are made, and once more at the end: a fifth of the time of a short command.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def staying() -> Iterator[None]:
    """What is made within stays until the process ends: nobody looks for cycles meanwhile, nor among it later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def log_without_rich() -> None:
    """Load structlog as it is where there is no rich; for processes that stay.

    It would load rich, and with that Pygments, to colour traces. Ours are text before it sees them, so that secrets are
    masked in them. It is a fifth of the processor time of a hub's imports, and 4 MB for as long as it runs.
    """
    if "rich" in sys.modules or "structlog" in sys.modules:
        return  # somebody has asked for it
    sys.modules["rich"] = None  # type: ignore[assignment]  # how Python is told that there is none
    try:
        import structlog  # noqa: F401 - for those who import it later
    finally:
        del sys.modules["rich"]

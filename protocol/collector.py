"""How often a process that runs for long looks for cycles among its objects.

Callers: ``hub/app.py`` and ``sidecar/app.py``.
"""

import gc


def spare_the_collector() -> None:
    """Look for cycles rarely, and never among what was there at the start.

    A task passes as a few hundred objects that reference counts free. The collector would find nothing among them, and
    walk through everything that the process remembers to do so: it took a third of the time of a busy hub.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)

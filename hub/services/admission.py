"""Whether new tasks may come in: asked before anything is done for a submission.

The order of the reasons is that of how bad things are: no room on the disk, no database, no memory, too many kinds of
tasks, too much waiting. What agents report and people decide never comes here: it is always taken.
"""

from collections.abc import Callable, Iterable
from typing import Final

from hub.core.window import Window
from hub.store.backend import Backend
from protocol.errors import Overloaded

MAX_CLASSES: Final = 10_000
"""Classes of waiting tasks (executor, model, capabilities): each costs memory and time in every plan."""
_RETRY_AFTER_S: Final = 5.0


class Admission:
    """The one door for new tasks.

    Args:
        store: whose queue they would wait in.
        window: the classes that wait already.
        checks: pass, or raise Unavailable: the disk, the memory.
    """

    def __init__(self, store: Backend, window: Window, checks: Iterable[Callable[[], None]] = ()) -> None:
        self._store, self._window, self._checks = store, window, tuple(checks)

    def check(self, tasks: int, classes: Iterable[str], by: str) -> None:
        """Pass if so many tasks of these classes may come in from the caller ``by``.

        Raises:
            StorageFull: the disk is kept for what runs.
            Throttled: too much of what waits is this caller's.
            Overloaded: too much waits, of whomever.
        """
        for check in self._checks:
            check()
        if self._store.trouble:
            raise Overloaded(self._store.trouble, 1.0)
        known = self._window.classes
        if len(known) >= MAX_CLASSES and any(text not in known for text in classes):
            raise Overloaded(f"tasks of {len(known)} different kinds wait already", _RETRY_AFTER_S)
        self._store.waiting.check(tasks, by)

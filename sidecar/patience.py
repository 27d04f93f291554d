"""Ask what may never answer, and go on without it.

A function that hangs keeps a thread of its own and nothing else: the event loop goes on, the process can end (the
thread is a daemon), and no second call is made while the first one hangs. Callers: ``sidecar/resources.py``.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")
PATIENCE_S: Final = 2.0


class Patient(Generic[T]):
    """One question, asked again and again.

    Args:
        name: of the thread.
        ask: may block; what it raises is raised where the answer is waited for.
        patience_s: how long one answer is waited for.
    """

    def __init__(self, name: str, ask: Callable[[], T], patience_s: float = PATIENCE_S) -> None:
        self._name, self._ask, self._patience_s = name, ask, patience_s
        self._asked: asyncio.Future[T] | None = None
        self._asked_at = 0.0

    @property
    def silent_s(self) -> float:
        """How long the question has been open; 0: none is."""
        return monotonic() - self._asked_at if self._asked else 0.0

    async def answer(self) -> T | None:
        """The answer; ``None`` if it takes longer than one is ready to wait. It is not waited for twice."""
        if self._asked is None:
            self._asked, self._asked_at = asyncio.get_running_loop().create_future(), monotonic()
            threading.Thread(target=self._run, args=(self._asked,), name=self._name, daemon=True).start()
        left_s = self._asked_at + self._patience_s - monotonic()
        if left_s > 0:
            await asyncio.wait({self._asked}, timeout=left_s)
        if not self._asked.done():
            return None
        asked, self._asked = self._asked, None
        return asked.result()

    def _run(self, asked: "asyncio.Future[T]") -> None:
        try:
            outcome = self._ask()
        except Exception as exc:  # noqa: BLE001 - handed to whoever waits, whatever it is
            _hand_over(asked, asked.set_exception, exc)
        else:
            _hand_over(asked, asked.set_result, outcome)


def _hand_over(asked: "asyncio.Future[Any]", settle: Callable[[Any], None], value: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
        asked.get_loop().call_soon_threadsafe(settle, value)

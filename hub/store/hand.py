"""A thread that does one job after the other.

A pool of threads makes a future, a condition and an item of every job, because somebody may wait for it. The batches
of a store tell of their end by themselves, and a lone task waits for two of them: such a job goes over as it is
(:meth:`Hand.post`). Everything else is handed over as to any executor, and waits its turn in the same queue. Caller:
``sqlite.py``.
"""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import ParamSpec, TypeVar

import structlog

log = structlog.get_logger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class Hand(Executor):
    """One thread called ``name``; it begins with its first job, and does not keep the program from ending."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._is_closed = False
        self._posted = self._done = 0

    @property
    def is_idle(self) -> bool:
        """Everything that it was given is done. True until the next job comes, whoever asks where jobs come from."""
        return self._done == self._posted

    def post(self, job: Callable[[], object]) -> None:
        """Do ``job`` after all others; it tells of its end by itself, and raises nothing.

        Raises:
            RuntimeError: it is shut down; or it has not begun, and the machine has no thread left.
        """
        if self._is_closed:
            raise RuntimeError(f"{self._name} takes no more jobs")
        if self._thread is None:
            thread = Thread(target=self._work, name=self._name, daemon=True)
            thread.start()  # or nobody would ever do the job, and whoever closes the store would wait for it
            self._thread = thread
        self._posted += 1
        self._jobs.put(job)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Do it after all others; its future tells what came of it."""
        future: Future[T] = Future()
        self.post(partial(_settle, future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - Executor's
        """Take no more jobs; those that were taken are done. Twice is once."""
        assert not cancel_futures, "what was taken is done"
        if not self._is_closed:
            self._is_closed = True
            self._jobs.put(None)
        if wait and self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:  # a bug of a job that was to raise nothing: without the thread no other would be done
                log.exception("job_failed", thread=self._name)
            del job  # with its batch, or with what it has read, however long the next one may take to come
            self._done += 1


def _settle(future: Future[T], call: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as exc:  # noqa: BLE001 - whoever waits is told, whatever it is
        future.set_exception(exc)
    else:
        future.set_result(result)

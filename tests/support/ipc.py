"""Shared memory, a semaphore and queues of the host, open to everybody, that no confined program may get at."""

import contextlib
import ctypes
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_FOR_ALL: Final = 0o666
_PRIVATE: Final = 0
_REMOVE: Final = 0


@dataclass(frozen=True, slots=True)
class Shared:
    """Numbers as the kernel gives them, and the name of a queue."""

    memory: int
    semaphore: int
    queue: int
    named: str


@contextlib.contextmanager
def shared_objects() -> Iterator[Shared]:
    """One of each, gone afterwards."""
    libc = ctypes.CDLL(None, use_errno=True)
    named = f"/agentcom-{uuid.uuid4()}"
    with contextlib.ExitStack() as stack:

        def made(number: int) -> int:
            assert number >= 0, os.strerror(ctypes.get_errno())
            return number

        memory = made(libc.shmget(_PRIVATE, 4096, _FOR_ALL))
        stack.callback(libc.shmctl, memory, _REMOVE, None)
        semaphore = made(libc.semget(_PRIVATE, 1, _FOR_ALL))
        stack.callback(libc.semctl, semaphore, 0, _REMOVE)
        queue = made(libc.msgget(_PRIVATE, _FOR_ALL))
        stack.callback(libc.msgctl, queue, _REMOVE, None)
        os.close(made(libc.mq_open(named.encode(), os.O_CREAT | os.O_RDWR, _FOR_ALL, None)))
        stack.callback(libc.mq_unlink, named.encode())
        yield Shared(memory, semaphore, queue, named)

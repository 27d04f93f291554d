"""The gate lets so many use git at once and no more, also those that have not said yet what they want to push."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from random import Random
from typing import Final

import pytest

from hub.clock import SystemClock
from hub.core.fleet import Fleet
from hub.core.projects import Project
from hub.core.receiving import PushForbidden
from hub.remote import HttpRemotes
from hub.services.gate import MAX_AT_ONCE, RECEIVE, Admitted, Asked, Gate
from hub.store.sqlite import SqliteStore
from protocol.errors import Overloaded
from protocol.model import AttemptId

ADDRESS: Final = "https://git.example.org/r.git"
ADMITTED: Final = Admitted(AttemptId("a", 1, "t", 1), "p", ADDRESS, b"")


def _gate(folder: Path) -> Gate:
    """A gate whose pushes get no further than their list of branches."""
    store = SqliteStore(folder / "hub.sqlite")
    project = Project(name="p", repository=ADDRESS)
    bits = Random(1).getrandbits
    return Gate(
        store, Fleet(), SystemClock(), lambda _name: project, lambda _project: ("u", "p"), HttpRemotes(),
        random_bits=bits,
    )  # fmt: skip


async def _push(gate: Gate, body: AsyncIterator[bytes]) -> None:
    async with gate.exchange(ADMITTED, Asked(RECEIVE, {}, body)):
        pass


async def _silent(said: asyncio.Queue[None]) -> AsyncGenerator[bytes, None]:
    """A client that sends the beginning of a list, and then nothing."""
    yield b"00"
    said.put_nowait(None)
    await asyncio.Event().wait()


async def _nothing() -> AsyncGenerator[bytes, None]:
    """A client that hangs up."""
    for piece in tuple[bytes, ...]():
        yield piece


async def test_clients_that_never_say_what_they_want_count_among_those_that_use_git(tmp_path: Path) -> None:
    gate, said = _gate(tmp_path), asyncio.Queue[None]()
    pushing = [asyncio.create_task(_push(gate, _silent(said))) for _ in range(MAX_AT_ONCE)]
    for _ in pushing:
        await said.get()

    with pytest.raises(Overloaded):
        await _push(gate, _nothing())

    for task in pushing:
        task.cancel()
    await asyncio.gather(*pushing, return_exceptions=True)
    for _ in range(MAX_AT_ONCE + 1):
        with pytest.raises(PushForbidden):
            await _push(gate, _nothing())

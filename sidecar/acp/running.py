"""The program of an agent in the cell of its attempt, with a conversation over its standard input and output.

Started when the conversation begins and ended with it, however that ends: nothing of an agent runs while checks judge
what it has left. Caller: ``sidecar/executors/acp.py``.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from protocol.model import FailureClass
from sidecar.acp.client import Client
from sidecar.acp.wire import Peer
from sidecar.child import NOT_EXECUTABLE, NOT_FOUND, Tail
from sidecar.core.programs import AgentProgram
from sidecar.errors import AgentCrashed, AgentGarbled, AgentSilent, CannotStart
from sidecar.process import ProcessOutcome
from sidecar.sandbox.cell import Cell

END_S: Final = 3.0
"""How long an agent may take to end by itself once nothing more is said to it."""
MAX_UNREAD_BYTES: Final = 32 << 20
"""What we have said and the agent has not read yet."""
_SAID_BYTES: Final = 4 << 10
_LOOK_S: Final = 1.0


@contextlib.asynccontextmanager
async def running(
    cell: Cell,
    program: AgentProgram,
    client: Client,
    env: Mapping[str, str],
    log: Callable[[str, str], None],
    is_waiting: Callable[[], bool] = lambda: False,
) -> AsyncIterator[Peer]:
    """A conversation with the agent, whose program has been started.

    Args:
        cell: where it runs.
        program: what is started.
        client: answers what it asks.
        env: more of its environment.
        log: takes (stream, text) of what it says beside the protocol.
        is_waiting: whether it waits for something else of ours.
    Raises:
        AgentCrashed, AgentGarbled, AgentSilent: in the conversation, as soon as one of them is so.
        CannotStart, SandboxFailed, LeaseOver: its program was not started.
    """
    said = Tail(_SAID_BYTES)

    def beside(line: str) -> None:
        said.add(f"{line}\n")
        log("stderr", f"{line}\n")

    def write(message: bytes) -> None:
        if not writer.is_closing():
            writer.write(message)
        if writer.get_write_buffer_size() > MAX_UNREAD_BYTES:
            peer.fail(AgentGarbled("it does not read what it asks for"))

    def hear(stream: str, text: str) -> None:
        if stream == "stdout":
            peer.feed(text)
        else:
            said.add(text)
            log(stream, text)

    def ended(task: "asyncio.Task[ProcessOutcome]") -> None:
        peer.fail(_why(task, program, said.text()))

    peer = Peer(write, client.answer, client.hear, beside)
    theirs, writer = await _pipe()
    at_work = asyncio.create_task(
        cell.run(list(program.command), env={**program.env, **env}, stdin=theirs, on_output=hear, max_output_bytes=0)
    )
    at_work.add_done_callback(ended)
    watching = asyncio.create_task(_watch(peer, is_waiting, program.silence_s))
    try:
        yield peer
    except BaseException:
        at_work.cancel()  # no reason to wait for it
        raise
    finally:
        watching.cancel()
        writer.close()
        try:
            await _end(at_work, peer, client)
        finally:
            os.close(theirs)


async def _pipe() -> tuple[int, asyncio.WriteTransport]:
    """The end that the agent reads, and ours."""
    theirs, ours = os.pipe()
    try:
        loop = asyncio.get_running_loop()
        writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(ours, "wb", 0))
    except BaseException:
        os.close(theirs)
        raise
    return theirs, writer


async def _end(at_work: "asyncio.Task[ProcessOutcome]", peer: Peer, client: Client) -> None:
    try:
        await client.terminals.close()
        await peer.close()
        await asyncio.wait({at_work}, timeout=END_S)
    finally:
        at_work.cancel()
        await asyncio.wait({at_work})


async def _watch(peer: Peer, is_waiting: Callable[[], bool], silence_s: float) -> None:
    """Give an agent up that says nothing and waits for nothing of us."""
    loop = asyncio.get_running_loop()
    busy_at = loop.time()
    while True:
        if peer.is_busy or is_waiting():
            busy_at = loop.time()
        silent_s = loop.time() - max(busy_at, peer.heard_at)
        if silent_s >= silence_s:
            peer.fail(AgentSilent("nothing was heard of it", silent_s))
            return
        await asyncio.sleep(min(_LOOK_S, silence_s - silent_s))


def _why(at_work: "asyncio.Task[ProcessOutcome]", program: AgentProgram, said: str) -> BaseException:
    """What the end of the program means for whoever is still talking to it."""
    if at_work.cancelled():
        return AgentCrashed(program.name, None, said)
    if (error := at_work.exception()) is not None:
        return error
    outcome = at_work.result()
    if outcome.exit_code in {NOT_FOUND, NOT_EXECUTABLE}:
        return CannotStart(program.command[0], said.strip()[-300:] or "it is not there", FailureClass.INFRA)
    return AgentCrashed(program.name, outcome.exit_code, said)

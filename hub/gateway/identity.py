"""The question at the door: whoever is on a machine that has joined proves that it holds the key of that machine.

The hello names a key, the hub answers with a random challenge, the sidecar signs it together with who it is and what it
sees of this connection. So neither a token that was copied, nor anything that was recorded, nor somebody who passes on
what both ends say (and ends TLS in between) opens a connection. Callers: ``server.py``.
"""

import asyncio
import secrets
from typing import Protocol

from hub.gateway.line import Line
from hub.services.identities import Known
from protocol import codec, messages
from protocol.errors import ProtocolViolation
from protocol.keys import NONCE_BYTES, WrongKey, said_at_hello, text
from protocol.limits import HANDSHAKE_S


class IdentityPort(Protocol):
    """Who knows the machines by their keys; :class:`hub.services.identities.Identities`."""

    async def of(self, token: str, sidecar: str, key: str) -> Known | None:
        """The machine that has to sign, if there is one."""
        ...

    async def signed(self, known: Known, said: bytes, signature: str) -> None:
        """Pass if the machine has signed this."""
        ...


async def prove(line: Line, hello: messages.Hello, identities: IdentityPort | None) -> bool:
    """Have the sidecar prove that it is on its machine; ``False``: it has none that is known.

    Raises:
        WrongKey: it is not, as far as anybody can tell.
        ProtocolViolation: it answers something else.
        ConnectionError, TimeoutError: it does not answer.
    """
    if identities is None or (known := await identities.of(line.token, hello.sidecar, hello.key)) is None:
        return False
    nonce = text(secrets.token_bytes(NONCE_BYTES))
    async with asyncio.timeout(HANDSHAKE_S):
        await line.send(codec.encode(messages.Challenge(nonce=nonce)))
        frame = await line.receive()
    found = [] if frame is None else codec.decode(frame)
    if len(found) != 1 or not isinstance(found[0], messages.Signature):
        raise ProtocolViolation("a signature", ", ".join(type(one).__name__.lower() for one in found[:5]) or "the end")
    answer = found[0]
    if line.channels and answer.channel not in line.channels:
        raise WrongKey(known.name, "it sees another certificate than this hub shows: somebody stands between")
    await identities.signed(known, said_at_hello(nonce, answer.channel, hello.sidecar, hello.boot), answer.signature)
    return True

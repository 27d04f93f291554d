"""A mail server that takes every message and keeps it: as much of RFC 5321 (and 4954) as a sender needs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage


@dataclass
class MailServer:
    """What came, in order."""

    port: int = 0
    refuses: bool = False
    """No recipient is known here."""
    mails: list[EmailMessage] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One sender."""
        writer.write(b"220 mail.example.org\r\n")
        while line := await reader.readline():
            verb = line.split()[0].upper() if line.split() else b""
            writer.write(await self._answer(verb, reader, writer))
            await writer.drain()
            if verb == b"QUIT":
                break
        writer.close()

    async def _answer(self, verb: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        if verb == b"EHLO":
            return b"250-mail.example.org\r\n250-AUTH PLAIN\r\n250 8BITMIME\r\n"
        if verb == b"AUTH":
            return b"235 welcome\r\n"
        if verb == b"RCPT" and self.refuses:
            return b"550 nobody of this name\r\n"
        if verb == b"DATA":
            writer.write(b"354 go ahead\r\n")
            body = await reader.readuntil(b"\r\n.\r\n")
            mail = message_from_bytes(body[:-5].replace(b"\r\n..", b"\r\n."), policy=policy.default)
            assert isinstance(mail, EmailMessage)
            self.mails.append(mail)
        return b"221 bye\r\n" if verb == b"QUIT" else b"250 fine\r\n"


@contextlib.asynccontextmanager
async def mail_server() -> AsyncIterator[MailServer]:
    """A mail server on a free port."""
    made = MailServer()
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made

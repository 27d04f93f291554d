"""Speaks git's HTTP with servers of repositories, for attempts that come through the hub (``hub/services/gate.py``).

Follows no redirect: user and password go to the address that they were given for, and nowhere else.
"""

import ssl
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from hub.git import RemoteFailed
from hub.services.gate import Reply, UserPassword

CONNECT_S: Final = 30.0
SILENT_S: Final = 300.0
"""Hooks of a server may look at a push for minutes before it says anything."""
PIECE_BYTES: Final = 64 << 10
_PASSED_BACK: Final = ("Content-Type", "Content-Encoding")
_REDIRECT: Final = 3


class HttpRemotes:
    """All servers, over one pool of connections; ``ca_file``: certificates to trust instead of the machine's."""

    def __init__(self, ca_file: str = "") -> None:
        self._ca_file = ca_file
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def ask(
        self,
        address: str,
        path: str,
        login: UserPassword,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | None,
    ) -> AsyncGenerator[Reply, None]:
        """See :class:`hub.services.gate.Remote`."""
        secret = b64encode(f"{login[0]}:{login[1]}".encode()).decode()
        sent = {**headers, "Authorization": f"Basic {secret}"}
        method, url = "GET" if body is None else "POST", f"{address.rstrip('/')}/{path}"
        try:
            async with self._open().request(method, url, data=body, headers=sent, allow_redirects=False) as answer:
                if answer.status // 100 == _REDIRECT:
                    raise RemoteFailed(address, "it is somewhere else now; change the project's address")
                kept = {name: answer.headers[name] for name in _PASSED_BACK if name in answer.headers}
                yield Reply(answer.status, kept, answer.content.iter_chunked(PIECE_BYTES))
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            # By its kind: what a library says of a request may name its headers.
            raise RemoteFailed(address, f"no answer ({type(exc).__name__})") from None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENT_S)
            trusted = ssl.create_default_context(cafile=self._ca_file or None)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=trusted),
                timeout=timeout,
                trust_env=False,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()

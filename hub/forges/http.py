"""Speaks JSON over HTTP with forges: bounded in time and size, and every failure named.

Follows no redirect and uses no proxy of the environment: a credential goes to the server that it was given for. What a
forge says is shown without the credential, should it repeat that.
"""

import ssl
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from yarl import URL

from hub.forges.shapes import ForgeFailed, Trouble
from protocol.redaction import Redactor

CALL_S: Final = 30.0
CONNECT_S: Final = 10.0
MAX_BYTES: Final = 8 << 20
"""Longest answer that is read: a page of files, each with its part of the diff."""
_SAID_CHARS: Final = 300
_LONGEST_WAIT_S: Final = 3_600.0
_STATUS: Final = {
    400: Trouble.REJECTED,
    401: Trouble.REFUSED,
    403: Trouble.REFUSED,
    404: Trouble.MISSING,
    405: Trouble.REJECTED,
    409: Trouble.REJECTED,
    410: Trouble.MISSING,
    412: Trouble.REJECTED,
    413: Trouble.REJECTED,
    422: Trouble.REJECTED,
    423: Trouble.REJECTED,
    429: Trouble.LIMITED,
}
_REDIRECT: Final = 3
_GOOD: Final = 2
_FORBIDDEN: Final = 403
_FAILS: Final = 500


class Answer(NamedTuple):
    """What a forge has answered: ``value`` is its JSON, ``None`` without any."""

    status: int
    value: Any
    headers: Mapping[str, str]


class Sessions:
    """The connections to all forges; ``ca_file``: certificates to trust instead of the machine's."""

    def __init__(self, ca_file: str = "") -> None:
        self._ca_file = ca_file
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> aiohttp.ClientSession:
        """The session, made when the first forge is spoken to."""
        if self._session is None:
            trusted = ssl.create_default_context(cafile=self._ca_file or None)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=trusted),
                timeout=aiohttp.ClientTimeout(total=CALL_S, sock_connect=CONNECT_S),
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "AgentCom"},
            )
        return self._session

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()


class Line:
    """How to reach one repository.

    Args:
        sessions: the connections.
        api: where the forge's API begins.
        headers: what shows who is asking; in no log and no message.
        secrets: what is never shown.
    """

    def __init__(self, sessions: Sessions, api: str, headers: Mapping[str, str], secrets: tuple[str, ...]) -> None:
        self.api = api
        self._sessions, self._headers, self._redactor = sessions, headers, Redactor(secrets)

    async def ask(
        self,
        method: str,
        path: tuple[str | int, ...],
        doing: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str | int] | None = None,
        api: str = "",
    ) -> Answer:
        """Ask; ``path`` are the names behind the API's address, ``doing`` is what this is for, in a word or two.

        Raises:
            ForgeFailed: it did not do that.
        """
        url = "/".join((api or self.api, *(quote(str(part), safe="") for part in path)))
        url += f"?{urlencode(query)}" if query else ""
        sent = {"Accept": "application/json", "Content-Type": "application/json", **self._headers}
        try:
            async with self._sessions.open().request(
                method,
                URL(url, encoded=True),  # a slash in the name of a branch stays quoted
                data=None if body is None else msgspec.json.encode(body),
                headers=sent,
                allow_redirects=False,
            ) as answer:
                raw = await self._read(answer, doing)
        except TimeoutError:
            raise ForgeFailed(Trouble.UNREACHABLE, self.api, doing, f"no answer within {CALL_S:g} s") from None
        except (aiohttp.ClientError, OSError) as exc:
            # By its kind: what a library says of a request may name its headers.
            raise ForgeFailed(Trouble.UNREACHABLE, self.api, doing, _kind(exc)) from None
        return self._judged(answer, raw, doing)

    async def _read(self, answer: aiohttp.ClientResponse, doing: str) -> bytes:
        raw = bytearray()
        async for piece in answer.content.iter_chunked(64 << 10):
            raw += piece
            if len(raw) > MAX_BYTES:
                said = f"an answer of more than {MAX_BYTES:,} bytes"
                raise ForgeFailed(Trouble.BROKEN, self.api, doing, said, status=answer.status)
        return bytes(raw)

    def _judged(self, answer: aiohttp.ClientResponse, raw: bytes, doing: str) -> Answer:
        status, headers = answer.status, answer.headers
        if status // 100 == _REDIRECT:
            said = "it is somewhere else now; change the project's address"
            raise ForgeFailed(Trouble.MISSING, self.api, doing, said, status=status)
        try:
            value = msgspec.json.decode(raw) if raw.strip() else None
        except (msgspec.DecodeError, RecursionError):  # the last: lists in lists in lists
            value = None
            if status // 100 == _GOOD:
                raise ForgeFailed(Trouble.BROKEN, self.api, doing, "its answer is no JSON", status=status) from None
        if status // 100 != _GOOD:
            trouble, after_s = _trouble(status, headers)
            raise ForgeFailed(trouble, self.api, doing, self.said(value), status=status, after_s=after_s)
        return Answer(status, value, headers)

    def said(self, value: object) -> str:
        """What an answer says of a failure, in one line and without secrets."""
        return self._redactor.text(_said(value))[:_SAID_CHARS]

    def shaped(self, answer: Answer, doing: str, shape: Any) -> Any:  # noqa: ANN401 - an object of ``shape``
        """The answer as what it has to be.

        Raises:
            ForgeFailed: it is something else.
        """
        try:
            return msgspec.convert(answer.value, shape)
        except msgspec.ValidationError as exc:
            said = f"its answer is not as its API says: {exc}"
            raise ForgeFailed(Trouble.BROKEN, self.api, doing, said[:_SAID_CHARS], status=answer.status) from None


def _trouble(status: int, headers: Mapping[str, str]) -> tuple[Trouble, float]:
    """What a status means, and when to ask again; GitHub says 403 to who asks too often."""
    after_s = _seconds(headers.get("Retry-After", ""))
    is_spent = headers.get("X-RateLimit-Remaining") == "0"
    if status == _FORBIDDEN and (after_s or is_spent):
        return Trouble.LIMITED, after_s
    return _STATUS.get(status, Trouble.BROKEN if status >= _FAILS else Trouble.REJECTED), after_s


def _seconds(text: str) -> float:
    return min(float(text), _LONGEST_WAIT_S) if text.isdecimal() else 0.0


def _said(value: object) -> str:
    """What a forge says of a failure, in one line: its ``message``, and GitHub's list of ``errors``."""
    if not isinstance(value, dict):
        return ""
    errors = value.get("errors")
    more = [
        str(each.get("message") or each.get("code") or "") if isinstance(each, dict) else str(each)
        for each in (errors if isinstance(errors, list) else ())
    ]
    parts = [str(value.get("message") or ""), *more]
    return " ".join("; ".join(part for part in parts if part).split())


def _kind(exc: Exception) -> str:
    if isinstance(exc, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError | ssl.SSLError):
        return "its certificate is not trusted here (git_ca_file)"
    if isinstance(exc, aiohttp.ClientConnectorError):
        return exc.os_error.strerror or "no connection"
    return f"no answer ({type(exc).__name__})"

"""What a machine asks its hub, over plain HTTP requests that wait for their answer.

No secret is sent before the hub is known: :meth:`Door.authority` and :meth:`Door.date` are the questions that may be
asked of anybody; the rest speaks only with who shows the authority that ``steps.py`` has found to be right.
"""

import http.client
import ssl
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from agentcom.answers import value_from
from protocol.api import PREFIX
from protocol.errors import HubUnreachable
from protocol.pinning import CA_PATH, blind_context, first_certificate, pinned_context

T = TypeVar("T")
TIMEOUT_S: Final = 20.0
_MOST_BYTES: Final = 1 << 20


class _Alive(Struct):
    protocol: tuple[int, int] | None = None


class Door:
    """A way to one hub; ``pem`` is its authority, empty: whom the system trusts."""

    def __init__(self, url: str, pem: str = "") -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        self._host, self._port = parts.hostname or "", parts.port
        self.is_tls, self._base, self.pem = parts.scheme == "https", parts.path, pem

    def ask(self, method: str, path: str, shape: type[T], *, body: object = None, token: str = "") -> T:
        """A request of the API, once.

        Raises:
            HubUnreachable: nobody answers, or somebody whom this machine does not know.
            AgentComError: the hub answers an error.
        """
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        raw = None if body is None else msgspec.json.encode(body)
        if raw is not None:
            headers["Content-Type"] = "application/json"
        status, answer, got = self._once(method, PREFIX + path, raw, headers, self._context())
        kind = got.get("Content-Type", "").partition(";")[0]
        return value_from(self.url, status, kind, answer, shape, got.get("Retry-After"))

    def fetch(self, path: str, most_bytes: int) -> bytes:
        """The body of a page outside of the API that anybody may read.

        Raises:
            HubUnreachable: nobody answers, or somebody whom this machine does not know, or more than so many bytes.
            AgentComError: the hub answers an error.
        """
        status, answer, got = self._once("GET", path, None, {}, self._context(), most_bytes + 1)
        if status != http.client.OK:
            value_from(self.url, status, got.get("Content-Type", "").partition(";")[0], answer, bytes, None)
        if status != http.client.OK or len(answer) > most_bytes or len(answer) != int(got.get("Content-Length", -1)):
            raise HubUnreachable(self.url, f"{path} answers {status} and {len(answer)} bytes")
        return answer

    def date(self) -> str:
        """What time it is there; asked of anybody, with nothing secret."""
        return self.look()[0]

    def look(self) -> tuple[str, tuple[int, int] | None]:
        """What time it is there, and the versions of the wire protocol, if it says; asked as :meth:`date`."""
        _, answer, got = self._once("GET", "/healthz", None, {}, blind_context() if self.is_tls else None)
        try:
            protocol = msgspec.json.decode(answer, type=_Alive).protocol
        except msgspec.DecodeError:
            protocol = None
        return got.get("Date", ""), protocol

    def authority(self) -> str:
        """The authority that it shows, in PEM form; empty if it has none. Nobody has compared it with anything."""
        status, answer, _ = self._once("GET", CA_PATH, None, {}, blind_context())
        return first_certificate(answer.decode("ascii", "replace")) if status == http.client.OK else ""

    def _context(self) -> ssl.SSLContext | None:
        return (pinned_context(self.pem) if self.pem else ssl.create_default_context()) if self.is_tls else None

    def _once(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        context: ssl.SSLContext | None,
        most_bytes: int = _MOST_BYTES,
    ) -> tuple[int, bytes, dict[str, str]]:
        if context is None:
            line = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        else:
            line = http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT_S, context=context)
        try:
            line.request(method, self._base + path, body, headers)
            answer = line.getresponse()
            return answer.status, answer.read(most_bytes), dict(answer.getheaders())
        except (OSError, http.client.HTTPException) as exc:
            raise HubUnreachable(self.url, str(exc) or type(exc).__name__) from exc
        finally:
            line.close()

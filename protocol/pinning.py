"""Know a hub again by the authority that signed its certificate, and speak TLS with nobody else.

A hub makes an authority of its own at its first start (``hub/authority.py``) and signs its certificates with it. Who
is to talk to it gets the SHA-256 of that authority by another way (the command that adds a machine holds it), fetches
the authority itself from ``/ca.pem`` over a connection that nothing secret may cross, and keeps it only if the hash
fits. From then on the connection itself proves who is at the other end, before a token is shown.

Pure but for the context of the standard library; the caller owns the socket::

    trust = Trust(ca_hash="3f1c...")
    context = await trust.context("https://hub.example.org:7420", asyncio.open_connection)
    ... = await asyncio.open_connection("hub.example.org", 7420, ssl=context)
"""

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from protocol.errors import BadInput, Problem, Refused

if TYPE_CHECKING:
    import ssl  # large: imported where something is pinned, and not by a command whose hub speaks without

CA_PATH: Final = "/ca.pem"
"""Where a hub shows its authority, to anybody: it is no secret."""
OWN_AUTHORITY: Final = "AgentCom hub authority"
"""``organizationName`` of an authority that a hub has made; it signs nothing but certificates of that hub."""
MAX_ANSWER_BYTES: Final = 64 << 10
_HTTPS: Final = 443
CA_HASH: Final = re.compile(r"[0-9a-f]{64}")
_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+?-----END CERTIFICATE-----")


class WrongHub(Refused):
    """Who answers is not the hub that is known here; nothing secret was sent."""

    code = "wrong_hub"

    def __init__(self, url: str, expected: str, found: str = "") -> None:
        self.url, self.expected, self.found = url, expected, found
        super().__init__(url, expected, found)

    def __str__(self) -> str:
        found = f"its authority is {self.found[:16]}..." if self.found else "its certificate is not signed by it"
        return (
            f"{self.url} is not the hub that is known here (authority {self.expected[:16]}...): {found}; nothing "
            "secret was sent. If the hub was set up anew, compare what 'agentcom fingerprint' prints on its machine "
            "and set ca_hash (AGENTCOM_CA_HASH) to it; if not, somebody stands between"
        )


def first_certificate(pem: str) -> str:
    """The first certificate of ``pem`` alone, in one spelling: what stands behind it was never compared with a hash.

    Raises:
        BadInput: there is none.
    """
    import ssl

    found = _CERTIFICATE.search(pem)
    try:
        if found is not None:
            return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(found[0]))
    except ValueError:
        pass  # not base64: as if there were none
    raise BadInput([Problem("ca", "no certificate in PEM form (-----BEGIN CERTIFICATE-----)")], "authority")


def ca_hash(pem: str) -> str:
    """The SHA-256 of the first certificate of ``pem`` (of its DER form), as 64 hexadecimal digits.

    Raises:
        BadInput: there is none.
    """
    import hashlib
    import ssl

    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first_certificate(pem))).hexdigest()


def pinned_context(ca_pem: str) -> "ssl.SSLContext":
    """For clients: trusts what the first certificate of ``ca_pem`` has signed, or that very certificate, and no more.

    The name in the certificate is compared with the address, except under an authority that a hub has made: it signs
    for nobody else, and its hub may be reached by addresses that it does not know (a tunnel, a port that is forwarded).

    Raises:
        BadInput: there is no certificate in it.
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=first_certificate(ca_pem))
    except ssl.SSLError as exc:
        raise BadInput([Problem("ca", f"the certificate cannot be used: {exc.reason or exc}")], "authority") from exc
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # what is pinned may be signed by somebody itself
    context.check_hostname = not any(_is_own(known.get("subject", ())) for known in context.get_ca_certs())
    return context


def _is_own(subject: object) -> bool:
    parts = subject if isinstance(subject, tuple) else ()
    return any(pair == ("organizationName", OWN_AUTHORITY) for part in parts for pair in part)


def blind_context() -> "ssl.SSLContext":
    """For the one question that may be asked of somebody unknown: what is your authority? No token may cross it."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def authority_request(host: str) -> bytes:
    """The question, as it travels: a whole HTTP request without a token.

    Args:
        host: ``name:port`` of the hub.
    """
    return f"GET {CA_PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("ascii", "replace")


def authority_in(url: str, answer: bytes, expected: str) -> str:
    """The authority in the answer, if it is the expected one; no byte of another one is kept.

    Args:
        url: whom the request was sent to, for the error.
        answer: all that came back, at most :data:`MAX_ANSWER_BYTES`.
        expected: its hash, as :func:`ca_hash` writes it.
    Raises:
        WrongHub: it is another one, or none.
    """
    _head, _, body = answer.partition(b"\r\n\r\n")
    try:
        pem = first_certificate(body.decode("ascii", "replace"))
    except BadInput:
        raise WrongHub(url, expected, "none") from None
    import hmac

    if not hmac.compare_digest(ca_hash(pem).encode(), expected.lower().encode()):
        raise WrongHub(url, expected, ca_hash(pem))
    return pem


class Reading(Protocol):
    """What ``asyncio.StreamReader`` can do."""

    async def read(self, n: int = -1) -> bytes:
        """At most ``n`` bytes; none at the end."""
        ...


class Writing(Protocol):
    """What ``asyncio.StreamWriter`` can do."""

    def write(self, data: bytes) -> None:
        """Send."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...


Connect = Callable[..., Awaitable[tuple[Any, Any]]]
"""``asyncio.open_connection``, or what speaks like it."""


async def fetch_authority(connect: Connect, url: str, expected: str) -> str:
    """Ask the hub at ``url`` for its authority; it is the expected one.

    Raises:
        WrongHub: it is another one, or none.
        OSError: nobody answers.
    """
    parts = urlsplit(url)
    reader: Reading
    writer: Writing
    reader, writer = await connect(parts.hostname, parts.port or _HTTPS, ssl=blind_context())
    try:
        writer.write(authority_request(parts.netloc))
        answer = b""
        while len(answer) <= MAX_ANSWER_BYTES and (piece := await reader.read(MAX_ANSWER_BYTES)):
            answer += piece
    finally:
        writer.close()
    return authority_in(url, answer, expected)


_hash = ca_hash  # an argument below has its name


class Trust:
    """Whom a client takes for its hub: who shows the pinned authority, or else whom the system trusts."""

    def __init__(self, ca_pem: str = "", ca_hash: str = "") -> None:
        """Pin an authority.

        Args:
            ca_pem: the authority itself.
            ca_hash: only its hash: the authority is fetched before the first connection.
        Raises:
            BadInput: there is no certificate in ``ca_pem``, or it is not the one of ``ca_hash``.
        """
        self.pem = first_certificate(ca_pem) if ca_pem else ""
        self.hash = ca_hash.lower() or (_hash(self.pem) if self.pem else "")
        if self.pem and _hash(self.pem) != self.hash:
            problem = "it is not the hash of what ca_file holds; leave one of the two out"
            raise BadInput([Problem("ca_hash", problem)], "settings")
        self.known = pinned_context(self.pem) if self.pem else None
        """What connections to the hub are made with, as soon as the authority is here."""

    async def context(self, url: str, connect: Connect) -> "ssl.SSLContext | None":
        """With what to speak to ``url``; ``None``: as usual, in the clear or with whom the system trusts.

        Raises:
            WrongHub: the hub has another authority than the pinned one.
            OSError: nobody answers.
        """
        if not url.startswith("https:"):
            return None
        if self.known is None and self.hash:
            self.pem = await fetch_authority(connect, url, self.hash)
            self.known = pinned_context(self.pem)
        return self.known

    def refusal(self, url: str) -> WrongHub | None:
        """The error when the certificate at ``url`` was not signed by what is pinned; ``None``: nothing is pinned."""
        return WrongHub(url, self.hash) if self.hash else None

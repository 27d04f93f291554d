"""TLS of a hub's port: which certificate it shows, under which names, and a new one in time.

A certificate that was given is read again when its file changes, so what renews it need not know the hub. Connections
that stand keep what they began with.
"""

import asyncio
import hashlib
import ipaddress
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psutil
import structlog

from hub.authority import Authority, given_authority, is_due, load_or_make_authority
from hub.opening import unusable, written_in
from hub.settings import Settings
from protocol.errors import BadInput

log = structlog.get_logger(__name__)
LOOK_S: Final = 60.0
_ANY: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared, not bound


class Tls:
    """The certificate of a hub, and the context of its port."""

    def __init__(self, settings: Settings) -> None:
        """Read the certificate that was given, or make one.

        Raises:
            BadInput: it cannot be used, or the data directory cannot be written.
        """
        self._settings = settings
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.channel = b""
        """SHA-256 of the certificate that is shown: a machine signs it together with the hub's challenge."""
        self.channels: frozenset[str] = frozenset()
        """The same in hexadecimal digits, with that of the certificate before it: connections keep what they saw."""
        self._seen: tuple[int, ...] = ()
        self.authority = self._load()

    async def run(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Keep the certificate fresh, for as long as the hub runs."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look(now())

    def look(self, now: datetime) -> None:
        """Make or read the certificate anew if it is time; one that cannot be had leaves the old one in place."""
        if not (is_due(self.authority, now) if self.authority.is_own else self._changed() != self._seen):
            return
        try:
            self.authority = self._load(now)
        except BadInput as exc:
            ends_at = self.authority.ends_at.isoformat()
            log.warning("certificate_not_renewed", why=str(exc), ends_at=ends_at, next="tried again in a minute")
            return
        log.info("certificate_in_use", ends_at=self.authority.ends_at.isoformat())

    def _load(self, now: datetime | None = None) -> Authority:
        settings = self._settings
        try:
            if settings.tls_cert:
                seen = self._changed()
                found = given_authority(settings.tls_cert, settings.tls_key)
            else:
                seen = ()
                with written_in(settings.folder):
                    found = load_or_make_authority(settings.folder, names_of(settings), now)
            channel = hashlib.sha256(_first(Path(found.cert_file))).digest()
            # Tried elsewhere first: a context that has met a certificate without its key has lost the one it had.
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(found.cert_file, found.key_file)
            self.context.load_cert_chain(found.cert_file, found.key_file)
            shown = (self.channel or channel, channel)
            self.channel, self._seen = channel, seen
            self.channels = frozenset(each.hex() for each in shown)
        except (OSError, ssl.SSLError) as exc:
            given = f"{settings.tls_cert or found_in(settings)} with {settings.tls_key or 'its key'}"
            raise unusable("tls_cert", f"cannot use {given}: {exc}") from exc
        return found

    def _changed(self) -> tuple[int, ...]:
        files = Path(self._settings.tls_cert), Path(self._settings.tls_key)
        try:
            return tuple(file.stat().st_mtime_ns for file in files)
        except OSError:
            return self._seen  # being replaced: the next look finds it


def found_in(settings: Settings) -> Path:
    """Where the certificate lies that a hub makes itself."""
    return settings.folder / "tls" / "hub.pem"


def _first(file: Path) -> bytes:
    text = file.read_text(encoding="ascii", errors="replace")
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(begin + text.partition(begin)[2].partition(end)[0] + end)


def names_of(settings: Settings) -> tuple[str, ...]:
    """Every name and address by which this machine may be reached: those of its interfaces, and those that are set."""
    host, _port = settings.address
    given = [*settings.tls_names, host, urlsplit(settings.url).hostname or "", "localhost", "127.0.0.1", "::1"]
    given.extend(urlsplit(origin).hostname or "" for origin in settings.origins)
    if host in _ANY:
        given.append(socket.gethostname())
        for addresses in psutil.net_if_addrs().values():
            given.extend(each.address for each in addresses if each.family in {socket.AF_INET, socket.AF_INET6})
    return tuple(sorted({_plain(name) for name in given} - _ANY))


def _plain(name: str) -> str:
    """A name as it stands in a certificate; empty if it cannot stand there."""
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return name.lower().rstrip(".") if name.isascii() and 0 < len(name) <= 253 else ""  # noqa: PLR2004 - RFC 1035
    return "" if address.is_link_local or address.is_unspecified else str(address)

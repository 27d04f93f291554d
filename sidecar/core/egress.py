"""Whom confined work may reach through the sidecar's proxy: names that the owner of the host has listed, and no others.

Pure: reads the head of a request, answers what is wanted of whom, or says why not. Refused is every name that is not
listed, every way to write an address instead of a name, every port but those that are listed, and of what a name stands
for everything that is not the public internet: so no name, listed or not, leads to this machine, to its neighbours, or
to the services of a cloud that tell secrets to whoever asks. Caller: ``sidecar/sandbox/egress.py``.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

PORTS: Final = (80, 443)
"""Of a name that is listed without one."""
_NAME: Final = r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)\.?"
_TUNNEL: Final = re.compile(_NAME + r":(?P<port>[0-9]{1,5})")
_PLAIN: Final = re.compile(r"http://" + _NAME + r"(?::(?P<port>[0-9]{1,5}))?(?P<path>[/?][!-~]*)?", re.IGNORECASE)
_LISTED: Final = re.compile(r"(?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)+(?::[0-9]{1,5})?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LONGEST_LABEL: Final = 63
_ITS_OWN: Final = frozenset({"host", "connection", "proxy-connection", "proxy-authorization", "keep-alive", "upgrade"})
"""Fields of a request that are for the proxy, or that it writes anew."""
_NOT_PUBLIC: Final = tuple(
    map(
        ip_network,
        (
            *("192.0.0.0/24", "192.88.99.0/24", "100.64.0.0/10", "::/96", "64:ff9b::/96", "64:ff9b:1::/48"),
            *("2001::/23", "2002::/16", "fec0::/10"),
        ),
    )
)
"""What Python takes for global and is not, or leads to addresses of version 4 by another way."""


class Denied(Exception):
    """A request that is not passed on: the status it is answered with, and why."""

    def __init__(self, status: int, why: str) -> None:
        self.status, self.why = status, why
        super().__init__(status, why)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks for: a tunnel (``first`` is empty), or ``first`` to be sent before all else."""

    host: str
    port: int
    first: bytes


class Allowed:
    """The names that the owner of the host has listed: ``example.org``, ``*.example.org``, either with ``:PORT``."""

    def __init__(self, listed: Iterable[str]) -> None:
        self._listed = frozenset(_ports(each.lower()) for each in listed)

    def check(self, host: str, port: int) -> None:
        """Nothing, if the name is listed.

        Raises:
            Denied: it is not.
        """
        parents = host.split(".")
        names = {host, *("*." + ".".join(parents[n:]) for n in range(1, len(parents)))}
        if not any(name in names and port in ports for name, ports in self._listed):
            raise Denied(
                403, f"{host}:{port} is not among the names that the owner of this machine allows work to reach"
            )


def is_name(listed: str) -> bool:
    """Whether this can stand in the list of allowed names."""
    if not _LISTED.fullmatch(listed.lower()):
        return False
    name, ports = _ports(listed.lower())
    return not _NUMBER.fullmatch(name.rsplit(".", 1)[-1]) and all(0 < port < 1 << 16 for port in ports)


def _ports(listed: str) -> tuple[str, tuple[int, ...]]:
    name, _, port = listed.partition(":")
    return name, (int(port),) if port else PORTS


def request(head: bytes) -> Wanted:
    """What the head of a request, up to its empty line, asks for.

    Raises:
        Denied: it is no request for a proxy, or names no host.
    """
    line, *fields = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    words = line.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or any(not "!" <= each <= "~" for each in "".join(words)):  # noqa: PLR2004 - method, target, version
        raise Denied(400, "this is no request for a proxy")
    method, target, version = words
    found = (_TUNNEL if method == "CONNECT" else _PLAIN).fullmatch(target)
    if found is None:
        raise Denied(400, "only names of hosts are passed on: CONNECT host:port, or http://host/path")
    host, port = _host(found["host"]), int(found["port"] or 80)
    if method == "CONNECT":
        return Wanted(host, port, b"")
    path = found["path"] or "/"
    path = path if path.startswith("/") else f"/{path}"
    kept = list(_kept(fields))
    named = host if port == PORTS[0] else f"{host}:{port}"
    lines = [f"{method} {path} {version}", f"Host: {named}", *kept, "Connection: close", "", ""]
    return Wanted(host, port, "\r\n".join(lines).encode("latin-1"))


def _host(written: str) -> str:
    host = written.lower()
    labels = host.split(".")
    if any(not label or len(label) > _LONGEST_LABEL for label in labels) or _NUMBER.fullmatch(labels[-1]):
        raise Denied(400, "only names of hosts are passed on, not addresses")
    return host


def _kept(fields: list[str]) -> Iterator[str]:
    for field in fields:
        name, colon, _ = field.partition(":")
        if not colon or not name or name != name.strip() or any(each in field for each in "\r\n\0"):
            raise Denied(400, "a field of the request is not written as fields are")
        if name.lower() not in _ITS_OWN:
            yield field


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, however it is written."""
    found = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    special = (
        found.is_multicast
        or found.is_reserved
        or any(found in each for each in _NOT_PUBLIC if each.version == found.version)
    )
    return found.is_global and not special

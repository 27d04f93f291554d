"""By which names others reach this machine. Callers: ``sidecar/seen.py``, ``sidecar/llm/endpoints.py``."""

import socket
from ipaddress import ip_address
from typing import Final

import psutil

MOST: Final = 16
_BRIDGES: Final = ("docker", "br-", "veth", "virbr", "cni", "flannel", "podman", "lxc")
"""Interfaces whose addresses every machine of that kind has: they tell none from another."""


def names() -> tuple[str, ...]:
    """Its host name and its addresses, in small letters, at most :data:`MOST`; without those that only it knows."""
    found = [socket.gethostname().lower()]
    for interface, addresses in sorted(psutil.net_if_addrs().items()):
        if interface.startswith(_BRIDGES):
            continue
        for each in addresses:
            if each.family in {socket.AF_INET, socket.AF_INET6}:
                address = ip_address(each.address.partition("%")[0])
                found += [] if address.is_loopback or address.is_link_local else [str(address)]
    return tuple(dict.fromkeys(found))[:MOST]


def is_here(host: str) -> bool:
    """Whether this name or address is one of this machine."""
    try:
        return ip_address(host).is_loopback or host in names()
    except ValueError:
        return host == "localhost" or host.partition(".")[0] in {name.partition(".")[0] for name in names()}

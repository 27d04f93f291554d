"""Where the hub may send what others have told it to send. Pure: names are looked up by whoever connects."""

from ipaddress import ip_address
from typing import Final

_KEYS_OF_CLOUDS: Final = frozenset(
    map(ip_address, ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"))
)
"""Where Alibaba, Azure, Oracle and Amazon (IPv6) answer machines about themselves, beside 169.254.169.254."""


def is_forbidden(host: str) -> bool:
    """Whether requests must not go there: addresses where clouds keep the keys of machines, most of them link-local."""
    try:
        found = ip_address(host)
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found  # an IPv4 address may be written as one of IPv6
    return found in _KEYS_OF_CLOUDS or found.is_link_local or found.is_multicast or found.is_unspecified


def is_here(host: str) -> bool:
    """Whether it is this very machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""Where the hub may send what others have told it to send. Pure: names are looked up by whoever connects."""

from ipaddress import ip_address


def is_forbidden(host: str) -> bool:
    """Whether requests must not go there: link-local addresses, where clouds keep the keys of machines."""
    try:
        found = ip_address(host)
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found  # an IPv4 address may be written as one of IPv6
    return found.is_link_local or found.is_multicast or found.is_unspecified


def is_here(host: str) -> bool:
    """Whether it is this very machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

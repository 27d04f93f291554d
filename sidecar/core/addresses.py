"""Which hub to dial next, of several that share one database.

Pure: what happened goes in, an address comes out. The ones that were given stand first, in their order; those that a
hub has told of come behind them. A line that breaks is answered by the next address at once; only when a whole round
has failed there is a wait. The caller is ``sidecar/link.py``.
"""

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit


class Addresses:
    """The hubs that may be dialled.

    Attributes:
        current: the one to dial now.
    """

    def __init__(self, given: Sequence[str]) -> None:
        """Begin with the first.

        Raises:
            ValueError: there is none.
        """
        if not given:
            message = "at least one address is needed"
            raise ValueError(message)
        self._given = tuple(dict.fromkeys(given))
        self._known = self._given
        self.current = self._given[0]
        self._failed = 0  # dials in a row without a welcome
        self._refusals: set[str] = set()

    def learn(self, addresses: Iterable[str]) -> None:
        """A hub has welcomed us and told which hubs live: those that nobody has given may be dialled too.

        Our token is shown where we dial. So an address that means another machine here than there (loopback), or that
        would show the token in the clear where the one that told it does not, is no address for us.
        """
        told = (address for address in addresses if _is_as_safe(address, self.current))
        self._known = tuple(dict.fromkeys((*self._given, *told, self.current)))
        self._failed = 0
        self._refusals.clear()

    def refused(self) -> bool:
        """The current one does not take us; whether that is so for all of them."""
        self._refusals.add(self.current)
        return self._refusals >= set(self._known)

    def turn(self, *, lived: bool) -> int | None:
        """Turn to the next one.

        Args:
            lived: the last connection was a good one for a while.
        Returns:
            How many whole rounds have failed in a row before this one; ``None``: dial at once, this round is not over.
        """
        self._failed = 1 if lived else self._failed + 1
        place = self._known.index(self.current) if self.current in self._known else -1
        self.current = self._known[(place + 1) % len(self._known)]
        rounds, rest = divmod(self._failed, len(self._known))
        return None if rest else rounds - 1


def _is_as_safe(address: str, than: str) -> bool:
    told, teller = urlsplit(address), urlsplit(than)
    return (told.scheme == "https" or teller.scheme != "https") and (not _is_loopback(told) or _is_loopback(teller))


def _is_loopback(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")

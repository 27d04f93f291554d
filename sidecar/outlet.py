"""The line to the hub, as ``sidecar/runner.py`` sees it; ``sidecar/link.py`` is one."""

from typing import Protocol

from protocol.messages import Message


class Outlet(Protocol):
    """The line to the hub (``sidecar/link.py``)."""

    def send(self, message: Message, encoded: bytes = b"") -> None:
        """Send a message, sooner or later.

        Args:
            message: what is sent.
            encoded: the same as MessagePack, from whoever has looked already whether the hub can read it.
        """
        ...

    def touch(self) -> None:
        """Have what may be forgotten tidied away soon."""
        ...

    def beat(self) -> None:
        """Send a heartbeat now."""
        ...

    @property
    def log_room(self) -> int:
        """Bytes of live output that it takes now."""
        ...

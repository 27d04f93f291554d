"""What carries the frames of a sidecar: the WebSocket at ``/mesh`` (``socket.py``), or a line of a simulation."""

from collections.abc import Callable
from typing import Protocol


class Line(Protocol):
    """One connection of a sidecar: whole frames, both ways.

    Every method but :meth:`close` may raise ConnectionError or TimeoutError: the line is broken.
    """

    @property
    def is_welcome(self) -> bool:
        """Whether what the other end has shown still lets it in (a token may be revoked, or expire)."""
        ...

    def is_for(self, sidecar: str) -> bool:
        """Whether what the other end has shown lets a sidecar of this name in."""
        ...

    @property
    def token(self) -> str:
        """Id of the token that the other end has shown; empty: none was asked for."""
        ...

    @property
    def channels(self) -> frozenset[str]:
        """Certificates that the other end may see (SHA-256, 64 hexadecimal digits); none: that is not known here."""
        ...

    @property
    def received_bytes(self) -> int:
        """What has come so far, that of an unfinished frame too."""
        ...

    async def receive(self) -> bytes | None:
        """The next frame; ``None`` when the other end has closed.

        Raises:
            ProtocolViolation: what came is no frame of bytes.
        """
        ...

    async def listen(self, heard: Callable[[bytes], None]) -> None:
        """Call ``heard`` with every frame that comes, in order, until the line is closed, by either end.

        It may be called from the event loop itself.

        Raises:
            ProtocolViolation: what came is no frame of bytes.
            Exception: what ``heard`` has raised; it is not called again.
        """
        ...

    async def send(self, frame: bytes) -> None:
        """Write a frame; returns when the line has taken it."""
        ...

    @property
    def is_free(self) -> bool:
        """Whether it has taken everything, so that :data:`protocol.limits.LITTLE_BYTES` more go out at once."""
        ...

    def put(self, frame: bytes) -> None:
        """Write a frame to a line that is free, at once; all frames that are put together are at most a little."""
        ...

    async def close(self, *, refused: bool = False, why: str = "") -> None:
        """Close in good order; one whose other end takes nothing any more is cut off soon. Twice is once.

        Args:
            refused: the other end need not come back as it is.
            why: a word for the other end.
        """
        ...

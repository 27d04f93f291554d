"""Strangers at the door: thousands of connections that say nothing, or little, for as long as they are let.

``python -m tests.support.siege HOW HOST PORT COUNT`` keeps so many up until its standard input ends: who is turned away
comes again. They come from many addresses of the loopback network, 200 each. A line a second tells how many stand and
how many came so far. ``HOW``: ``idle`` (nothing), ``head`` (a request whose head never ends), ``body`` (one whose body
never ends), ``hello`` (a TLS handshake that never ends); the last three say one byte a second.
"""

import contextlib
import errno
import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Mapping
from itertools import count
from typing import Final

BEGINNINGS: Final[Mapping[str, bytes]] = {
    "idle": b"",
    "head": b"GET /api/v1/tasks HTTP/1.1\r\nHost: hub\r\nX-Long: ",
    "body": b"POST /session HTTP/1.1\r\nHost: hub\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{",
    "hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}
OF_ADDRESS: Final = 200
AT_ONCE: Final = 200
"""Connections that are begun in one turn: the siege is not to stand in its own way."""


class Siege:
    """The sockets of all strangers."""

    def __init__(self, how: str, address: tuple[str, int], most: int) -> None:
        self._beginning, self._address, self._most = BEGINNINGS[how], address, most
        self._talks = how != "idle"
        self._sockets: dict[int, socket.socket] = {}
        self._poll = select.epoll()
        self._numbers = count()
        self._addresses = max(1, -(-most // OF_ADDRESS))
        self._again: deque[str] = deque(self._home(number) for number in range(most))
        self.came = 0

    @property
    def standing(self) -> int:
        """Connections that the hub has not ended."""
        return len(self._sockets)

    def turn(self) -> None:
        """Begin connections that are missing, and see which were ended."""
        for _ in range(min(AT_ONCE, len(self._again))):
            self._begin(self._again.popleft())
        for number, events in self._poll.poll(0.02, 1_000):
            line = self._sockets[number]
            if events & select.EPOLLOUT:
                self._poll.modify(number, select.EPOLLIN | select.EPOLLRDHUP)
                self._say(line, self._beginning)
            if events & (select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR):
                self._end(line)

    def talk(self) -> None:
        """One more byte on each."""
        for line in list(self._sockets.values()) if self._talks else ():
            self._say(line, b"x")

    def _home(self, number: int) -> str:
        place = number % self._addresses
        return f"127.1.{place // 250}.{place % 250 + 1}"

    def _begin(self, home: str) -> None:
        line = socket.socket()
        line.setblocking(False)
        line.bind((home, 0))
        error = line.connect_ex(self._address)
        if error not in {0, errno.EINPROGRESS}:
            line.close()
            self._again.append(home)
            return
        self.came += 1
        self._sockets[line.fileno()] = line
        self._poll.register(line.fileno(), select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP)

    def _say(self, line: socket.socket, text: bytes) -> None:
        if text:
            with contextlib.suppress(OSError):  # what it is told by then is seen by the next look
                line.send(text)

    def _end(self, line: socket.socket) -> None:
        self._again.append(line.getsockname()[0])
        self._poll.unregister(line.fileno())
        del self._sockets[line.fileno()]
        line.close()


def main(how: str, host: str, port: str, most: str) -> int:
    """Besiege until standard input ends."""
    siege = Siege(how, (host, int(port)), int(most))
    told_at = time.monotonic()
    while not select.select([sys.stdin], [], [], 0)[0]:
        siege.turn()
        if time.monotonic() - told_at >= 1.0:
            told_at = time.monotonic()
            siege.talk()
            print(siege.standing, siege.came, flush=True)
    os._exit(0)  # ten thousand sockets are closed faster by the system


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

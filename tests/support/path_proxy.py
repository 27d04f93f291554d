"""A reverse proxy that puts a server below a path, for browsers: it takes the path away and passes all else on.

It stands for somebody else's proxy (nginx with ``proxy_pass http://hub/;``), and speaks plain HTTP/1.1: one request a
connection, streams as they come.
"""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

_HEAD_END: Final = b"\r\n\r\n"
_PIECE: Final = 65_536


@contextlib.contextmanager
def path_proxy(url: str, path: str) -> Iterator[str]:
    """The address at which what is at ``url`` is found below ``path``; everything else there is 404."""
    target = urlsplit(url)

    class Passes(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            head = b""
            while _HEAD_END not in head:
                piece = self.request.recv(_PIECE)
                if not piece:
                    return
                head += piece
            line, _, rest = head.partition(b"\r\n")
            method, place, version = line.split(b" ")
            if not place.startswith(path.encode() + b"/"):
                self.request.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            below = b" ".join((method, place.removeprefix(path.encode()), version))
            with socket.create_connection((target.hostname, target.port)) as server:
                server.sendall(b"\r\n".join((below, b"Connection: close", _without(rest, b"connection"))))
                forth = threading.Thread(target=_pipe, args=(self.request, server), daemon=True)
                forth.start()
                _pipe(server, self.request)

    class Proxy(socketserver.ThreadingTCPServer):
        daemon_threads, allow_reuse_address = True, True

    with Proxy(("127.0.0.1", 0), Passes) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{proxy.server_address[1]}{path}"
        finally:
            proxy.shutdown()


def _without(head: bytes, name: bytes) -> bytes:
    lines, end, body = head.partition(_HEAD_END)
    return b"\r\n".join(each for each in lines.split(b"\r\n") if not each.lower().startswith(name + b":")) + end + body


def _pipe(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)

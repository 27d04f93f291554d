"""A server of git repositories as people run them: git's own ``http-backend`` behind TLS, user and password.

Speaks HTTP/1.1 with bodies of known length and in chunks, as such servers do, and keeps what it was asked.
"""

import base64
import contextlib
import functools
import os
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.support.bad_disk import need_programs
from tests.support.repositories import Remote, git, make_remote

USER: Final = "robot"
PASSWORD: Final = "pass-w0rd-9f31c7"
_READ_BYTES: Final = 64 << 10
Reply = tuple[int, dict[str, str], bytes]
Api = Callable[[str, str, Mapping[str, str], bytes], Reply | None]
"""What a server knows beside git: method, path, headers and body to an answer; ``None``: it hangs up without one."""


@functools.cache
def _backend() -> str:
    return subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()


@dataclass
class GitServer:
    """A server that runs; ``asked`` are method, path and whether the password was right, request of git by request.

    ``apis``: what answers paths that begin so.
    """

    url: str
    ca_file: Path
    remote: Remote
    root: Path
    asked: list[tuple[str, str, bool]] = field(default_factory=list)
    apis: dict[str, Api] = field(default_factory=dict)

    def with_login(self) -> str:
        """The address of the repository, with user and password."""
        return self.url.replace("https://", f"https://{USER}:{PASSWORD}@")


@contextlib.contextmanager
def git_server(folder: Path, owner: str = "") -> Iterator[GitServer]:
    """A server of one repository (of ``owner``), which only who knows the password may read and write."""
    (folder / owner).mkdir(exist_ok=True)
    remote = make_remote(folder / owner, {"README.md": "# A project\n"})
    git(remote.path, "config", "http.receivepack", "true")
    cert, key = _certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    made = GitServer("", cert, remote, folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, made))
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made.url = f"https://127.0.0.1:{server.server_address[1]}/{remote.path.relative_to(folder)}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _certificate(folder: Path) -> tuple[Path, Path]:
    need_programs("openssl")
    cert, key = folder / "server.pem", folder / "server.key"
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", *options, *names, "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, made: GitServer, *arguments: object) -> None:
        self._made = made
        super().__init__(*arguments)  # type: ignore[arg-type] # the server gives what its base takes

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self._body())

    do_PATCH = do_PUT = do_POST  # noqa: N815 - the names that the base looks for

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name of the base
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _answer(self, body: bytes) -> None:
        for begin, api in self._made.apis.items():
            if self.path.startswith(begin):
                reply = api(self.command, self.path, dict(self.headers.items()), body)
                if reply is None:
                    self.close_connection = True
                else:
                    self._send(*reply)
                return
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        is_known = self.headers.get("Authorization") == wanted
        self._made.asked.append((self.command, self.path, is_known))
        if not is_known:
            self._send(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
            return
        parts = urlsplit(self.path)
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self._made.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": USER,
        }
        done = subprocess.run([f"{_backend()}/git-http-backend"], input=body, env=env, capture_output=True, check=False)
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.partition(": ")[::2] for line in head.decode().splitlines())
        self._send(int(headers.pop("Status", "200").split()[0]), headers, rest)

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

"""The reverse proxies of ``ops/proxy`` as processes: the files as they are, but for addresses and certificates.

``./run test`` unpacks nginx, Caddy and HAProxy from their Debian packages; where there is none, its tests are skipped.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.support.mesh import LOOK_S, PATIENCE_S

ROOT: Final = Path(__file__).parents[2]
FILES: Final = {"nginx": "nginx.conf", "caddy": "Caddyfile", "haproxy": "haproxy.cfg"}
_UNPACKED: Final = ROOT / ".cache" / "proxies"
_PLACES: Final = os.pathsep.join(
    (os.environ.get("PATH", ""), "/usr/sbin", str(_UNPACKED / "usr" / "sbin"), str(_UNPACKED / "usr" / "bin"))
)
_NGINX: Final = """
daemon off; pid {folder}/pid; error_log stderr; worker_processes 1; {user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    {sites}
}}
"""


def _changed(kind: str, changes: Mapping[str, str]) -> str:
    text = (ROOT / "ops" / "proxy" / FILES[kind]).read_text("utf-8")
    for before, after in changes.items():
        assert before in text, f"{FILES[kind]} has no {before}"
        text = text.replace(before, after)
    return text


def _nginx(folder: Path, hub: str, port: int, cert: Path, key: Path) -> tuple[str, ...]:
    listens = {"127.0.0.1:7420": hub, "listen 443 ssl": f"listen 127.0.0.1:{port} ssl"}
    files = {"/etc/ssl/mesh/fullchain.pem": str(cert), "/etc/ssl/mesh/privkey.pem": str(key)}
    user = "user root;" if folder.stat().st_uid == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, user=user, sites=_changed("nginx", listens | files)))
    return "-c", str(config), "-e", "stderr"


def _caddy(folder: Path, hub: str, port: int, cert: Path, key: Path) -> tuple[str, ...]:
    own = f"{{\n\tadmin off\n\thttps_port {port}\n\tauto_https disable_redirects\n\tdefault_bind 127.0.0.1\n}}\n"
    sites = {f"{name}example.org {{": f"{name}example.org {{\n\ttls {cert} {key}" for name in ("\nmesh.", "\n")}
    config = folder / "Caddyfile"
    config.write_text(own + _changed("caddy", {"127.0.0.1:7420": hub, **sites}))
    return "run", "--adapter", "caddyfile", "--config", str(config)


def _haproxy(folder: Path, hub: str, port: int, cert: Path, key: Path) -> tuple[str, ...]:
    both, config = folder / "mesh.pem", folder / "haproxy.cfg"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    listens = {"bind :443": f"bind 127.0.0.1:{port}", "/etc/haproxy/mesh.pem": str(both), "127.0.0.1:7420": hub}
    config.write_text(_changed("haproxy", listens))
    return "-db", "-f", str(config)


_ARGUMENTS: Final = {"nginx": _nginx, "caddy": _caddy, "haproxy": _haproxy}


def program(kind: str) -> str:
    """Where a proxy is; the test is skipped if it is not there, or lacks a library."""
    found = shutil.which(kind, path=_PLACES)
    asked = "version" if kind == "caddy" else "-v"
    if found is None or subprocess.run([found, asked], capture_output=True, check=False, env=environment()).returncode:
        pytest.skip(f"this machine has no {kind} (apt install {kind})")
    return found


def environment() -> dict[str, str]:
    """For a proxy that was unpacked and not installed."""
    return {**os.environ, "LD_LIBRARY_PATH": str(_UNPACKED / "usr" / "lib" / "x86_64-linux-gnu")}


@contextlib.asynccontextmanager
async def proxy(kind: str, folder: Path, hub: str, port: int, cert: Path, key: Path) -> AsyncIterator[None]:
    """A proxy that takes connections on ``port`` and has the hub at ``hub`` (``host:port``) behind it."""
    own = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / f"{kind}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program(kind),
            *_ARGUMENTS[kind](folder, hub, port, cert, key),
            stdout=log,
            stderr=log,
            env=environment() | own,
        )
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await _takes(port):
                assert process.returncode is None, (folder / f"{kind}.log").read_text()
                await asyncio.sleep(LOOK_S)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _takes(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True

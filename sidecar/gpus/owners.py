"""Whose the processes on the GPUs are: of our attempts, of an LLM server that we report, or somebody else's.

A process of an attempt carries the tag of this sidecar (``sidecar/guard.py``). A server is known by the port that it
or a process that it descends from listens on; where another user's sockets cannot be seen, by the name of its program.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from time import monotonic
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import psutil

from protocol.machine import Owner

_SERVERS: Final = (
    "ollama",
    "llama-server",
    "llama_server",
    "vllm",
    "sglang",
    "lms",
    "lm studio",
    "mlx_lm",
    "koboldcpp",
)
"""How the programs of LLM servers are called, in small letters; what follows may differ."""
_AGAIN_S: Final = 30.0
"""How long somebody else's process is taken for that before it is looked at again."""
_NAME_CHARS: Final = 24
_LOOPBACK: Final = ("localhost", "::1")


class Known(NamedTuple):
    """A process that was looked at."""

    owner: Owner
    name: str
    at: float


class Owners:
    """Tells processes apart.

    Args:
        is_work: whether a process belongs to an attempt of ours.
        servers: addresses of the LLM servers that we report.
    """

    def __init__(self, is_work: Callable[[int], bool], servers: Callable[[], Iterable[str]]) -> None:
        self._is_work, self._servers = is_work, servers
        self._known: dict[tuple[int, float], Known] = {}

    def of(self, pids: Collection[int]) -> dict[int, Known]:
        """Owner and name of each process; one that is gone, or cannot be seen, is somebody else's."""
        ports = frozenset(_ports(self._servers()))
        now = monotonic()
        known: dict[tuple[int, float], Known] = {}
        found: dict[int, Known] = {}
        for pid in pids:
            try:
                process = psutil.Process(pid)
                key = pid, process.create_time()
                old = self._known.get(key)
                if old is None or (old.owner is Owner.OTHER and now - old.at >= _AGAIN_S):
                    name = process.name()[:_NAME_CHARS]
                    old = Known(self._owner(process, name, ports), name, now)
            except psutil.Error:
                found[pid] = Known(Owner.OTHER, "", now)
                continue
            known[key] = found[pid] = old
        self._known = known
        return found

    def _owner(self, process: psutil.Process, name: str, ports: frozenset[int]) -> Owner:
        if self._is_work(process.pid):
            return Owner.WORK
        line = [process, *process.parents()]
        if ports and (any(map(_is_server, (name, *_names(line[1:])))) or any(ports & _listens(each) for each in line)):
            return Owner.SERVER
        return Owner.OTHER


def _is_server(name: str) -> bool:
    return name.lower().startswith(_SERVERS)


def _names(line: Iterable[psutil.Process]) -> Iterator[str]:
    for each in line:
        try:
            yield each.name()
        except psutil.Error:
            continue


def _listens(process: psutil.Process) -> frozenset[int]:
    """Ports that a process listens on; none if that is not for us to see."""
    try:
        found = process.net_connections("tcp")
    except psutil.Error:
        return frozenset()
    return frozenset(each.laddr.port for each in found if each.status == psutil.CONN_LISTEN and each.laddr)


def _ports(urls: Iterable[str]) -> Iterator[int]:
    """Ports on this machine that servers of ours listen on."""
    for url in urls:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if host in _LOOPBACK or host.startswith("127."):
            yield parts.port or (443 if parts.scheme == "https" else 80)

"""The only way out of a network namespace: names that the owner of the host has listed, by real programs in it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from protocol.model import AttemptId
from sidecar.core.egress import Allowed, is_public
from sidecar.environment import minimal_env
from sidecar.process import Processes
from sidecar.sandbox.cell import Cell, Level, Sandbox
from sidecar.sandbox.egress import Egress
from sidecar.sandbox.policy import Place, Rules
from tests.support.levels import need

ATTEMPT = AttemptId("box", 1, "01jd0000000000000000000000", 1)
ASK = """
import json, socket, sys
said = {}
for target in json.loads(sys.argv[1]):
    with socket.create_connection(("127.0.0.1", 3128), 20) as line:
        line.sendall(f"CONNECT {target} HTTP/1.1\\r\\n\\r\\n".encode("latin-1"))
        said[target] = line.recv(100).split(b"\\r\\n")[0].decode()
print(json.dumps(said))
"""
"""Asks for tunnels; prints what each is answered."""


@dataclass
class World:
    """A server outside, and what name servers say."""

    port: int
    names: dict[str, Sequence[str]]
    heard: list[bytes] = field(default_factory=list)

    async def look_up(self, host: str) -> Sequence[str]:
        if host not in self.names:
            raise OSError(host)
        return self.names[host]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nworld")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    made = World(server.sockets[0].getsockname()[1], {"listed.test": ["127.0.0.1"], "other.test": ["127.0.0.1"]})
    made.names |= {"cloud.listed.test": ["169.254.169.254"], "two.listed.test": ["127.0.0.1", "10.0.0.1"]}
    yield made
    server.close()


async def made(folder: Path, world: World) -> tuple[Sandbox, Cell]:
    need(Level.BUBBLEWRAP)
    processes = Processes(base_env=minimal_env(os.environ, home=folder), drain_s=0.2, grace_s=0.5)
    domains = (f"listed.test:{world.port}", f"*.listed.test:{world.port}")
    # The server of the test is on this machine, which no name may lead to: here, and only here, it may.
    way_out = Egress(Allowed(domains), world.look_up, lambda address: address == "127.0.0.1" or is_public(address))
    sandbox = Sandbox(processes, folder, Rules(domains=domains), way_out=way_out)
    assert await sandbox.find("bubblewrap") is Level.BUBBLEWRAP, sandbox.why
    place = Place(folder / "work", folder / "scratch")
    place.workspace.mkdir()
    return sandbox, sandbox.cell(ATTEMPT, place)


@pytest.fixture
async def cell(tmp_path: Path, world: World) -> AsyncIterator[Cell]:
    sandbox, cell = await made(tmp_path, world)
    yield cell
    await sandbox.close(ATTEMPT)


async def ask(cell: Cell, targets: list[str]) -> dict[str, str]:
    outcome = await cell.run(["/usr/bin/env", "python3", "-c", ASK, json.dumps(targets)], timeout_s=60)
    said: dict[str, str] = json.loads(outcome.output)
    return said


async def test_a_listed_name_is_reached_by_programs_that_know_nothing_of_it(cell: Cell, world: World) -> None:
    program = f"import urllib.request as u; print(u.urlopen('http://listed.test:{world.port}/x').read())"
    outcome = await cell.run(["/usr/bin/env", "python3", "-c", program], timeout_s=60)

    assert outcome.output == "b'world'\n"
    assert world.heard[0].startswith(f"GET /x HTTP/1.1\r\nHost: listed.test:{world.port}\r\n".encode())


async def test_a_tunnel_carries_what_it_is_given(cell: Cell, world: World) -> None:
    program = f"""
import socket
line = socket.create_connection(("127.0.0.1", 3128), 20)
line.sendall(b"CONNECT listed.test:{world.port} HTTP/1.1\\r\\n\\r\\n")
assert line.recv(1000).startswith(b"HTTP/1.1 200 "), "no tunnel"
line.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n")
said = b""
while chunk := line.recv(1000): said += chunk
print(said[-5:])
"""
    outcome = await cell.run(["/usr/bin/env", "python3", "-c", program], timeout_s=60)

    assert outcome.output == "b'world'\n"


async def test_nobody_else_is_reached(cell: Cell, world: World) -> None:
    port = world.port
    wrong = [
        f"{host}:{port}" for host in ("other.test", "127.0.0.1", "localhost", "[::1]", "2130706433", "listed.test.evil")
    ]
    wrong += [f"listed.test:{port + 1}", "cloud.listed.test:80", f"cloud.listed.test:{port}", f"two.listed.test:{port}"]
    wrong += [f"unknown.listed.test:{port}", f"listed.test\0.evil.test:{port}"]
    said = await ask(cell, wrong)

    assert {target for target, line in said.items() if " 200 " in line} == set()
    assert {line.split()[1] for line in said.values()} <= {"400", "403", "502"}
    assert world.heard == []


async def test_there_is_no_way_around_it(cell: Cell, world: World) -> None:
    program = f"""
import socket
def tries(kind, address):
    try:
        line = socket.socket(socket.AF_INET, kind)
        line.settimeout(3)
        line.connect(address)
        line.send(b"CANARY")
        return "sent"
    except OSError:
        return "refused"
print(tries(socket.SOCK_STREAM, ("127.0.0.1", {world.port})), tries(socket.SOCK_STREAM, ("192.0.2.1", 80)),
    tries(socket.SOCK_DGRAM, ("192.0.2.1", 53)), tries(socket.SOCK_DGRAM, ("8.8.8.8", 53)))
try: print(socket.gethostbyname("listed.test"))
except OSError: print("unknown")
"""
    outcome = await cell.run(["/usr/bin/env", "python3", "-c", program], timeout_s=60)

    assert outcome.output == "refused refused refused refused\nunknown\n"
    assert world.heard == []


async def test_the_way_out_is_closed_with_its_program(cell: Cell) -> None:
    before = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(3):
        assert (await cell.run("env | grep -c 127.0.0.1:3128")).output == "4\n"

    assert len([*Path("/proc/self/fd").iterdir()]) <= before

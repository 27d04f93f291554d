"""What is revoked ends at once, open sockets too: nobody waits for a heartbeat, or for the next request."""

import asyncio
import select
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from hub.gateway.websocket import CLOSE_S
from hub.services import mates
from hub.web import stream
from tests.support.foreign_agent import ForeignAgent
from tests.support.joiner import API, Machine
from tests.support.running_hub import RunningHub, running_hub

ESTABLISHED = 1
"""TCP_ESTABLISHED of Linux."""
FAR_S = 60.0
"""Beyond what agents of these tests wait for (10 s): a socket that closes by then was told, not looked at by chance."""


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path, heartbeat_s=FAR_S, lease_s=3 * FAR_S) as made:
        yield made


async def end(hub: RunningHub, machine: Machine, way: str) -> int:
    own = {"Authorization": f"Bearer {machine.token}"}
    if way == "token":
        return (await hub.ask("DELETE", f"{API}/tokens/{machine.token.split('_')[1]}")).status
    if way == "machine that asks again":  # by another name, so that nobody finds it
        asked = await hub.ask("POST", f"{API}/join-requests", json=machine.body(name="another"), role=None)
        assert asked.status == 201, await asked.text()
    if way.startswith("machine"):
        return (await hub.ask("DELETE", f"{API}/machines/{machine.name}", role="operator")).status
    return (await hub.ask("DELETE", f"{API}/machine", role=None, headers=own)).status


@pytest.mark.parametrize("way", ["token", "machine", "machine that asks again", "leave"])
async def test_a_machine_that_is_thrown_out_loses_its_socket_at_once_and_comes_in_no_more(
    hub: RunningHub, way: str
) -> None:
    machine, other = await Machine(signs=True).join(hub), await Machine(signs=True).join(hub)
    socket, stays = await machine.dial(hub), await other.dial(hub)
    await socket.acknowledge()  # it is at work, not in the middle of its hello
    assert await end(hub, machine, way) == 204

    assert await socket.closed() == 1008
    with pytest.raises(Exception, match="401"):
        await ForeignAgent.dial(hub.url, machine.token)
    own = {"Authorization": f"Bearer {machine.token}"}
    assert (await hub.ask("GET", f"{API}/machine", role=None, headers=own)).status == 401
    await stays.say({"t": "ping", "token": 7})
    assert (await stays.until("pong"))["token"] == 7
    await stays.leave()


async def test_who_revokes_a_join_token_throws_nobody_out_and_lets_nobody_in(hub: RunningHub) -> None:
    machine = await Machine(signs=True).join(hub)
    socket = await machine.dial(hub)
    (token,) = (await (await hub.ask("GET", f"{API}/join-tokens")).json())["join_tokens"]
    assert (await hub.ask("DELETE", f"{API}/join-tokens/{token['id']}")).status == 204

    await socket.say({"t": "ping", "token": 7})
    assert (await socket.until("pong"))["token"] == 7
    await socket.leave()


async def test_only_who_manages_machines_throws_one_out_that_is_there(hub: RunningHub) -> None:
    machine = await Machine(signs=True).join(hub, "Arbitrary")
    for role, name, status in (("submitter", "Arbitrary", 403), ("agent", "Arbitrary", 403), ("operator", "no", 404)):
        assert (await hub.ask("DELETE", f"{API}/machines/{name}", role=role)).status == status

    await (await machine.dial(hub)).leave()


@pytest.mark.parametrize("path", ["/events", "/metrics/stream", "/logs"])
async def test_a_revoked_token_ends_its_streams(hub: RunningHub, path: str) -> None:
    made = await (await hub.ask("POST", f"{API}/tokens", json={"role": "viewer"})).json()
    hub.tokens["brief"] = made["token"]
    async with asyncio.timeout(FAR_S), hub.stream(f"{API}{path}", role="brief") as reader:
        assert reader.answer.status == 200
        assert (await hub.ask("DELETE", f"{API}/tokens/{made['id']}")).status == 204
        with pytest.raises((EOFError, aiohttp.ClientError)):
            await reader.until("nothing of this kind")

    assert (await hub.ask("GET", f"{API}/tasks", role="brief")).status == 401


async def test_a_stream_has_its_end_before_who_revokes_has_an_answer(hub: RunningHub) -> None:
    made = await (await hub.ask("POST", f"{API}/tokens", json={"role": "viewer"})).json()
    hub.tokens["brief"] = made["token"]
    async with hub.stream(f"{API}/events", role="brief"), hub.stream(f"{API}/events", role="viewer"):
        assert not [each for each in asyncio.all_tasks() if each.cancelling()]
        await hub.running.access.revoke(made["id"], by="test")  # the hub runs in this loop, and has had no turn since

        assert len([each for each in asyncio.all_tasks() if each.cancelling()]) == 1


async def test_a_reader_that_takes_nothing_keeps_no_socket_of_a_revoked_token(hub: RunningHub) -> None:
    made = await (await hub.ask("POST", f"{API}/tokens", json={"role": "viewer"})).json()
    host, _, port = hub.url.removeprefix("http://").partition(":")
    tasks = [{"title": "x" * 200, "executor": "noop", "prompt": "y"} for _ in range(1_000)]
    assert (await hub.ask("POST", f"{API}/tasks", json={"tasks": tasks})).status == 201
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        line.connect((host, int(port)))
        head = (f"GET {API}/events?after=0 HTTP/1.1", "Host: hub", f"Authorization: Bearer {made['token']}", "", "")
        line.sendall("\r\n".join(head).encode())
        while not select.select([line], [], [], 0)[0]:  # noqa: ASYNC110 - nothing of it is read
            await asyncio.sleep(0.01)
        assert (await hub.ask("DELETE", f"{API}/tokens/{made['id']}")).status == 204

        async with asyncio.timeout(FAR_S):
            while line.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)


def test_whatever_a_line_takes_a_revoked_token_is_over_within_five_seconds() -> None:
    """Another hub hears of it by a notification, or looks by itself; a line that takes nothing is then cut off."""
    assert mates.POLL_S + max(stream.END_S, CLOSE_S) < 5

"""A machine that has joined is its key: a token alone, or what was recorded of a connection, opens no other one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import InvalidStatus

from protocol.joining import read_token
from sidecar.dial import HubRefused
from tests.support.foreign_agent import ForeignAgent, hello
from tests.support.joiner import API, Machine, link_of
from tests.support.links import Notebook, running
from tests.support.running_hub import RunningHub, running_hub

SECONDS = 60.0


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path / "hub") as made:
        yield made


async def refused(agent: ForeignAgent) -> str:
    """Wait until the hub closes; the code of its last word."""
    word = await agent.until("error")
    assert word["fatal"] is True
    assert await agent.closed() == 1008
    return str(word["code"])


async def joined(hub: RunningHub) -> int:
    """How often an agent has come in."""
    answer = await hub.ask("GET", f"{API}/events?limit=500", headers={"Accept": "application/json"})
    return sum(event["kind"] == "agent_joined" for event in (await answer.json())["events"])


# --- who holds the key ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
async def test_a_sidecar_on_a_machine_that_has_joined_signs_its_connection(tmp_path: Path, tls: bool) -> None:
    async with running_hub(tmp_path / "hub", tls=tls) as hub, asyncio.timeout(SECONDS):
        machine = await Machine(signs=True).join(hub)
        link = link_of(hub, machine, tmp_path / "state")
        async with running(link, Notebook()):
            await link.online.wait()

        assert await joined(hub) == 1


async def test_a_stolen_token_alone_opens_no_connection(hub: RunningHub, tmp_path: Path) -> None:
    machine = await Machine(signs=True).join(hub, "Arbitrary")
    thief = Machine(signs=True)
    thief.name, thief.token = machine.name, machine.token

    for key in ({}, {"key": thief.key}):
        agent = await ForeignAgent.dial(hub.url, machine.token)
        await agent.say(hello(machine.name, **key))
        assert await refused(agent) == "wrong_key"
    agent = await ForeignAgent.dial(hub.url, machine.token)
    await agent.say(hello(machine.name, key=machine.key))
    await agent.say(thief.sign((await agent.next())["nonce"]))
    assert await refused(agent) == "wrong_key"
    with pytest.raises(HubRefused, match="another key"):
        await link_of(hub, thief, tmp_path / "thief").run(Notebook())

    assert await joined(hub) == 0
    await (await machine.dial(hub)).leave()


async def test_no_other_token_has_the_name_of_a_machine_that_signs(hub: RunningHub) -> None:
    machine = await Machine(signs=True).join(hub, "Arbitrary")
    agent = await ForeignAgent.dial(hub.url, hub.tokens["agent"])
    await agent.say(hello("Arbitrary"))

    assert await refused(agent) == "wrong_key"
    other = await ForeignAgent.join(hub.url, hub.tokens["agent"], name="Another", boot=1)
    await other.leave()
    await (await machine.dial(hub)).leave()


@pytest.mark.parametrize(
    "answer",
    [
        {"t": "signature", "signature": ""},
        {"t": "signature", "signature": "A" * 86},
        {"t": "signature", "signature": "\u00e9" * 86},
        {"t": "heartbeat", "sidecar": "Arbitrary", "boot": 1},
    ],
)
async def test_what_is_no_signature_is_refused(hub: RunningHub, answer: dict[str, object]) -> None:
    machine = await Machine(signs=True).join(hub, "Arbitrary")
    agent = await ForeignAgent.dial(hub.url, machine.token)
    await agent.say(hello("Arbitrary", key=machine.key))
    await agent.until("challenge")
    await agent.say(answer)

    assert await refused(agent) == ("wrong_key" if answer["t"] == "signature" else "protocol_violation")
    assert await joined(hub) == 0


async def test_a_signature_is_good_for_its_name_its_start_and_its_challenge_only(hub: RunningHub) -> None:
    machine = await Machine(signs=True).join(hub, "Arbitrary")
    nonces = set()
    for wrong in ({"boot": 2}, {"name": "Another"}, {"channel": "ab" * 32}):
        agent = await ForeignAgent.dial(hub.url, machine.token)
        await agent.say(hello("Arbitrary", key=machine.key))
        nonce = (await agent.until("challenge"))["nonce"]
        nonces.add(nonce)
        await agent.say(machine.sign(nonce, **wrong) | {"channel": ""})  # type: ignore[arg-type]  # one of them
        assert await refused(agent) == "wrong_key"

    assert len(nonces) == 3
    assert await joined(hub) == 0


# --- what was recorded ------------------------------------------------------------------------------------------------


class Recorder:
    """Passes on what clients say to a hub, byte by byte, and keeps it."""

    def __init__(self, hub: RunningHub) -> None:
        self._hub = urlsplit(hub.url)
        self.heard: list[bytearray] = []

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = bytearray()
        self.heard.append(heard)
        there, back = await asyncio.open_connection(self._hub.hostname, self._hub.port)
        await asyncio.gather(self._pass(reader, back, heard), self._pass(there, writer, bytearray()))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: bytearray) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(1 << 16):
                heard += piece
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def replay(self, place: int) -> bytes:
        """Say all of that again on a new connection; what the hub answers until it closes."""
        reader, writer = await asyncio.open_connection(self._hub.hostname, self._hub.port)
        writer.write(bytes(self.heard[place]))
        try:
            async with asyncio.timeout(SECONDS):
                return await reader.read()
        finally:
            writer.close()


async def test_a_connection_that_was_recorded_cannot_be_replayed(hub: RunningHub, tmp_path: Path) -> None:
    machine = await Machine(signs=True).join(hub, "Arbitrary")
    recorder = Recorder(hub)
    async with recorder.open() as url, asyncio.timeout(SECONDS):
        link = link_of(hub, machine, tmp_path / "state", url)
        async with running(link, Notebook()):
            await link.online.wait()
        (heard,) = recorder.heard
        assert machine.token.encode() in heard
        answered = await recorder.replay(0)

    assert answered.startswith(b"HTTP/1.1 101 ")
    assert b"challenge" in answered
    assert b"wrong_key" in answered
    assert b"welcome" not in answered
    assert await joined(hub) == 1


async def test_a_request_to_join_that_was_recorded_cannot_be_replayed(hub: RunningHub) -> None:
    made = await (await hub.ask("POST", f"{API}/join-tokens", json={"uses": 5})).json()
    body = Machine(signs=True).body(read_token(made["token"])[1])
    recorder = Recorder(hub)
    async with recorder.open() as url:
        headers = {"Connection": "close"}
        async with hub.client.post(f"{url}{API}/join", json=body, headers=headers) as answer:
            assert answer.status == 201
        answered = await recorder.replay(0)

    assert answered.startswith(b"HTTP/1.1 403 ")
    assert b"was heard before" in answered
    (token,) = (await (await hub.ask("GET", f"{API}/join-tokens")).json())["join_tokens"]
    assert token["used"] == 1


# --- older releases ---------------------------------------------------------------------------------------------------


async def test_a_machine_of_an_older_release_comes_in_until_its_sidecar_signs_and_never_back(hub: RunningHub) -> None:
    machine = await Machine().join(hub, "Arbitrary")
    for _ in range(2):
        await (await ForeignAgent.join(hub.url, machine.token, name="Arbitrary", boot=1)).leave()
    await (await machine.dial(hub, boot=2)).leave()  # it was brought up to date

    agent = await ForeignAgent.dial(hub.url, machine.token)
    await agent.say(hello("Arbitrary", boot=3))
    assert await refused(agent) == "wrong_key"
    made = await (await hub.ask("POST", f"{API}/join-tokens", json={})).json()
    body = machine.body(read_token(made["token"])[1])
    again = await hub.ask("POST", f"{API}/join", json=body, role=None)
    assert (again.status, "this release of AgentCom cannot" in await again.text()) == (403, True)
    await (await machine.dial(hub, boot=4)).leave()


async def test_a_token_without_a_machine_needs_no_key_and_may_name_one(hub: RunningHub) -> None:
    for boot, key in ((1, {}), (2, {"key": Machine().key})):
        agent = await ForeignAgent.join(hub.url, hub.tokens["agent"], name="Plain", boot=boot, **key)
        await agent.leave()

    assert await joined(hub) == 2


# --- another key ------------------------------------------------------------------------------------------------------


async def ask(hub: RunningHub, machine: Machine, path: str = "join", **more: object) -> tuple[int, dict[str, str]]:
    answer = await hub.ask("POST", f"{API}/{path}", json=machine.body(**more), role=None)
    found = await answer.json()
    machine.name, machine.token = found.get("name", machine.name), found.get("token", machine.token)
    return answer.status, found


async def test_a_machine_that_takes_part_gives_up_its_key_and_the_old_one_counts_no_more(hub: RunningHub) -> None:
    old = await Machine(signs=True).join(hub, "Arbitrary")
    stands = await old.dial(hub, boot=1)
    new = old.renew()
    status, found = await ask(hub, new)

    assert (status, found["name"]) == (201, "Arbitrary")
    assert await stands.closed() == 1008  # at once: what the old token had opened
    with pytest.raises(InvalidStatus, match="401"):
        await ForeignAgent.dial(hub.url, old.token)
    thief = old
    thief.token = new.token
    agent = await ForeignAgent.dial(hub.url, thief.token)
    assert (await old.greet(agent, 2))["code"] == "wrong_key"
    await (await new.dial(hub, boot=3)).leave()
    for path in ("join", "join-requests"):
        status, refused = await ask(hub, old, path)
        assert (status, "has had a newer key since" in refused["detail"]) == (403, True)
    assert (await ask(hub, old.renew()))[0] == 403


async def test_a_machine_whose_answer_was_lost_asks_for_its_new_key_again(hub: RunningHub) -> None:
    new = (await Machine(signs=True).join(hub, "Arbitrary")).renew()
    assert (await ask(hub, new))[0] == 201
    lost = new.token
    assert (await ask(hub, new))[0] == 201

    assert new.token != lost
    await (await new.dial(hub)).leave()
    newest = new.renew()
    assert (await ask(hub, newest))[0] == 201
    await (await newest.dial(hub, boot=2)).leave()


async def test_nobody_takes_a_key_over_that_has_not_signed_it_or_does_not_count(hub: RunningHub) -> None:
    old = await Machine(signs=True).join(hub, "Arbitrary")
    thief = old.renew()
    for wrong in ({"consent": ""}, {"consent": Machine().body()["signature"]}, {"replaces": Machine().key}):
        assert (await ask(hub, thief, **wrong))[0] == 403
    assert (await hub.ask("DELETE", f"{API}/tokens/{old.token.split('_')[1]}")).status == 204
    assert (await ask(hub, thief))[0] == 403  # thrown out: a person has to let it in

    status, waits = await ask(hub, thief, "join-requests")
    assert (status, waits["state"]) == (201, "waiting")
    assert (await hub.ask("POST", f"{API}/join-requests/{waits['code']}/approve")).status == 204
    assert (await ask(hub, thief))[1]["name"] == "Arbitrary"
    await (await thief.dial(hub)).leave()


async def test_a_machine_in_quarantine_gets_no_new_key_without_a_person(hub: RunningHub) -> None:
    old = await Machine(signs=True).join(hub, "Arbitrary")
    newer = await old.dial(hub, boot=9)
    agent = await ForeignAgent.dial(hub.url, old.token)
    assert (await old.greet(agent, 5))["code"] == "cloned"
    new = old.renew()

    assert (await ask(hub, new))[0] == 403
    assert (await hub.ask("POST", f"{API}/agents/Arbitrary/release")).status == 200
    assert (await ask(hub, new))[0] == 201
    assert await newer.closed() == 1008


async def test_a_sidecar_that_was_refused_dials_as_soon_as_it_has_its_new_key(hub: RunningHub, tmp_path: Path) -> None:
    machine = await Machine(signs=True).join(hub, "Arbitrary")
    link = link_of(hub, machine, tmp_path / "state")
    link._pace = replace(link._pace, refused_s=600.0)
    async with running(link, Notebook()), asyncio.timeout(SECONDS):
        await link.online.wait()
        new = machine.renew()
        assert (await ask(hub, new))[0] == 201
        while await joined(hub) < 2:
            new.keep(tmp_path / "state")
            machine.token = new.token  # the link reads it from there
            await asyncio.sleep(0.05)
        await link.online.wait()

"""A machine in the middle with another certificate: what it hears of clients and sidecars holds no secret."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agentcom import AsyncClient, Client
from hub.authority import load_or_make_authority
from protocol.errors import AgentComError
from protocol.pinning import Trust, WrongHub
from sidecar.clock import SystemClock
from sidecar.dial import HubRefused, dial
from sidecar.identity import Identity
from sidecar.keys import signer_in
from sidecar.link import Link
from tests.support.joiner import Machine
from tests.support.links import Notebook
from tests.support.running_hub import RunningHub, running_hub

SECONDS = 60.0


class Middle:
    """Speaks TLS with who comes, with a certificate of its own, and with the hub behind it; notes all that it reads."""

    def __init__(self, folder: Path, hub: str) -> None:
        self._hub = urlsplit(hub)
        self._authority = load_or_make_authority(folder, ["127.0.0.1", "localhost"])
        self._server: asyncio.Server | None = None
        self.heard = b""
        self.raw = 0

    async def open(self) -> str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._authority.cert_file, self._authority.key_file)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        return f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        assert self._server
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.raw += 1
        blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
        to_hub = await asyncio.open_connection(self._hub.hostname, self._hub.port, ssl=blind)
        await asyncio.gather(self._pass(reader, to_hub[1], notes=True), self._pass(to_hub[0], writer, notes=False))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, notes: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(1 << 16):
                self.heard += piece if notes else b""
                writer.write(piece)
                await writer.drain()
        writer.close()


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path / "hub", tls=True) as running:
        yield running


@pytest.fixture
async def middle(tmp_path: Path, hub: RunningHub) -> AsyncIterator[tuple[Middle, str]]:
    found = Middle(tmp_path / "middle", hub.url)
    yield found, await found.open()
    found.close()


def trust_in(hub: RunningHub, folder: Path, how: str) -> dict[str, str]:
    if how == "hash":
        return {"ca_hash": Trust(hub.running.ca_pem).hash}
    return {"ca_file": str(folder / "hub" / "tls" / "ca.pem")}


@pytest.mark.parametrize("how", ["authority", "hash"])
async def test_a_client_that_knows_its_hub_tells_the_middle_nothing(
    hub: RunningHub, middle: tuple[Middle, str], tmp_path: Path, how: str
) -> None:
    trust = trust_in(hub, tmp_path, how)
    async with asyncio.timeout(SECONDS):
        async with AsyncClient(hub.url, hub.tokens["viewer"], **trust) as client:
            assert (await client.health()).state
        async with AsyncClient(middle[1], hub.tokens["viewer"], patience_s=0.0, **trust) as client:
            with pytest.raises(WrongHub, match="nothing secret was sent"):
                await client.health()

    assert hub.tokens["viewer"].encode() not in middle[0].heard
    assert b"Authorization" not in middle[0].heard


@pytest.mark.parametrize("how", ["authority", "hash"])
async def test_a_short_command_that_knows_its_hub_tells_the_middle_nothing(
    hub: RunningHub, middle: tuple[Middle, str], tmp_path: Path, how: str
) -> None:
    trust = trust_in(hub, tmp_path, how)

    def use() -> None:
        with Client(hub.url, hub.tokens["viewer"], is_brief=True, **trust) as client:
            assert client.health().state
            assert client.server_date().endswith("GMT")
        pinned = Client(middle[1], hub.tokens["viewer"], is_brief=True, patience_s=0.0, **trust)
        with pinned, pytest.raises(WrongHub, match="nothing secret was sent"):
            pinned.health()
        unpinned = Client(middle[1], hub.tokens["viewer"], is_brief=True, patience_s=0.0)
        with unpinned, pytest.raises(AgentComError, match="certificate is not trusted here"):
            unpinned.health()

    await asyncio.to_thread(use)
    assert hub.tokens["viewer"].encode() not in middle[0].heard
    assert b"Authorization" not in middle[0].heard


@pytest.mark.parametrize("how", ["authority", "hash"])
async def test_a_sidecar_that_knows_its_hub_tells_the_middle_nothing(
    hub: RunningHub, middle: tuple[Middle, str], how: str
) -> None:
    pem = hub.running.ca_pem
    token = hub.tokens["agent"]
    for url, is_hub in ((hub.url, True), (middle[1], False)):
        trust = Trust(pem) if how == "authority" else Trust(ca_hash=Trust(pem).hash)
        opened = dial(url, token, "0", SECONDS, trust=trust)
        if is_hub:
            async with opened:
                continue
        with pytest.raises(HubRefused, match="nothing secret was sent") as told:
            await opened.__aenter__()
        assert told.value.reason == "wrong_hub"

    assert token.encode() not in middle[0].heard
    assert b"Authorization" not in middle[0].heard


async def test_without_a_pin_a_certificate_that_nobody_knows_is_refused_too(
    hub: RunningHub, middle: tuple[Middle, str]
) -> None:
    async with AsyncClient(middle[1], hub.tokens["viewer"], patience_s=0.0) as client:
        with pytest.raises(AgentComError, match="certificate is not trusted here"):
            await client.health()

    assert middle[0].heard == b""


async def test_the_middle_hears_who_checks_nothing(hub: RunningHub, middle: tuple[Middle, str]) -> None:
    """The proof that the tests above would notice."""
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    async with (
        asyncio.timeout(SECONDS),
        hub.client.get(middle[1] + "/api/v1/health", headers=hub.bearer("viewer"), ssl=blind) as answer,
    ):
        assert answer.status == 200

    assert hub.tokens["viewer"].encode() in middle[0].heard


async def test_the_middle_cannot_pass_on_what_a_machine_has_signed_though_it_is_believed(
    hub: RunningHub, middle: tuple[Middle, str], tmp_path: Path
) -> None:
    machine = await Machine(signs=True).join(hub)
    machine.keep(tmp_path / "state")
    believed = Trust((tmp_path / "middle" / "tls" / "ca.pem").read_text("ascii"))
    link = Link(
        middle[1],
        lambda: machine.token,
        Identity(machine.name, 7, "box", 1, "0.1.0"),
        clock=SystemClock(),
        chance=lambda: 0.5,
        dial=partial(dial, trust=believed),
        signer=partial(signer_in, tmp_path / "state"),
    )
    async with asyncio.timeout(SECONDS):
        with pytest.raises(HubRefused, match="somebody stands between") as told:
            await link.run(Notebook())

    assert told.value.reason == "wrong_key"
    assert machine.token.encode() in middle[0].heard

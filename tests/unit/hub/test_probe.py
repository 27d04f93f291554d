"""The promises of the probe: an endpoint is understood however it sends, and nothing that it sends harms the hub."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from hub.probe import probe
from protocol import codec
from protocol.errors import EndpointDown
from protocol.messages import Heartbeat
from protocol.model import EndpointKind, EndpointReport
from tests.support.serving import served


class Endpoint:
    """Answers every question with the same pieces, one after the other."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in self.pieces:
            await response.write(piece)
            await asyncio.sleep(0.02)
        await response.write_eof()
        return response


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    made = Endpoint()
    app = web.Application()
    app.router.add_get("/{path:.*}", made.answer)
    async with served(app) as made.url:
        yield made


async def test_an_answer_that_comes_in_pieces_is_read_to_its_end(endpoint: Endpoint) -> None:
    body = json.dumps({"models": [{"name": f"m{number}", "size": number} for number in range(3)]}).encode()
    endpoint.pieces = [body[:20], body[20:30], body[30:]]
    found = await probe(EndpointKind.OLLAMA, endpoint.url)

    assert [(model.name, model.size_bytes) for model in found.models] == [("m0", 0), ("m1", 1), ("m2", 2)]


@pytest.mark.parametrize(
    "body",
    [
        b'{"models": [{"name": "\xff\xfe"}]}',
        b'{"models": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"models": null}',
        b'{"models": [1]}',
        b'{"models": [{"size": 1}]}',
        b"[]",
        b"",
        b"{",
    ],
    ids=["no UTF-8", "too deep", "no list", "no model", "no name", "no object", "nothing", "half"],
)
async def test_an_answer_that_is_not_of_its_kind_is_an_endpoint_that_is_down(endpoint: Endpoint, body: bytes) -> None:
    endpoint.pieces = [body]
    with pytest.raises(EndpointDown, match="not as ollama does"):
        await probe(EndpointKind.OLLAMA, endpoint.url)


async def test_an_answer_without_end_is_an_endpoint_that_is_down(endpoint: Endpoint) -> None:
    endpoint.pieces = [b" " * (5 << 20)]
    with pytest.raises(EndpointDown, match="answers more than"):
        await probe(EndpointKind.OLLAMA, endpoint.url)


@pytest.mark.parametrize("size", ['"big"', "-1", "1.5", "9223372036854775808", "{}", "null"])
async def test_a_size_that_is_none_is_left_out_so_that_every_peer_can_read_the_model(
    endpoint: Endpoint, size: str
) -> None:
    endpoint.pieces = [f'{{"models": [{{"name": "m", "size": {size}}}]}}'.encode()]
    models = (await probe(EndpointKind.OLLAMA, endpoint.url)).models
    report = EndpointReport(id="e", kind=EndpointKind.OLLAMA, url=endpoint.url, local=True, models=models)

    assert [(model.name, model.size_bytes) for model in models] == [("m", None)]
    assert codec.decode(codec.encode(Heartbeat(sidecar="a", boot=1, endpoints=(report,))))


@pytest.mark.parametrize(
    "url", ["http://" + "a" * 70 + ".test", "http://x:99999", "http://a b", "http://\u2603..test", "http://%"]
)
async def test_an_address_that_leads_nowhere_is_an_endpoint_that_is_down(url: str) -> None:
    with pytest.raises(EndpointDown):
        await probe(EndpointKind.OLLAMA, url)

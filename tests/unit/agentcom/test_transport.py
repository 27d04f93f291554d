"""Promises of :mod:`agentcom.transport`."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from agentcom.answers import LostAnswer
from agentcom.transport import Frame, Transport
from protocol.errors import Forbidden, HubUnreachable, Overloaded
from tests.unit.agentcom.conftest import Script, breaks, refuses, replies, says, streams


@pytest.fixture
async def transport(script: Script) -> AsyncIterator[Transport]:
    found = Transport(script.url, "acm_x", patience_s=5.0)
    yield found
    await found.close()


async def test_the_token_is_sent_and_the_answer_read(script: Script, transport: Transport) -> None:
    script.then(replies({"a": 1}))

    assert await transport.call("GET", "/x", dict, query={"q": "1"}) == {"a": 1}
    assert script.requests[0].headers["Authorization"] == "Bearer acm_x"
    assert script.requests[0].query_string == "q=1"


async def test_a_busy_hub_is_asked_again(script: Script, transport: Transport) -> None:
    script.then(refuses(503, "overloaded", "busy", **{"Retry-After": "0"}), refuses(429, "x", "y"), replies({}))

    assert await transport.call("POST", "/x", dict, body={}) == {}
    assert len(script.requests) == 3


async def test_a_hub_that_asks_for_more_patience_than_there_is_ends_it_at_once(
    script: Script, transport: Transport
) -> None:
    script.then(refuses(503, "overloaded", "busy", **{"Retry-After": "60"}))

    with pytest.raises(Overloaded, match="busy"):
        await transport.call("GET", "/x", dict)
    assert len(script.requests) == 1


@pytest.mark.parametrize("status, code", [(429, "throttled"), (503, "overloaded"), (507, "storage_full")])
async def test_a_hub_that_names_a_time_is_not_asked_before_it(
    script: Script, transport: Transport, status: int, code: str
) -> None:
    script.then(refuses(status, code, "busy", **{"Retry-After": "1"}), replies({"a": 1}))
    loop = asyncio.get_running_loop()
    began = loop.time()

    assert await transport.call("GET", "/x", dict) == {"a": 1}
    assert loop.time() - began >= 1.0


async def test_a_stream_that_is_refused_for_a_time_is_not_asked_for_before_it(
    script: Script, transport: Transport
) -> None:
    script.then(
        refuses(429, "throttled", "too many", **{"Retry-After": "1"}), streams("id: 1\nevent: end\ndata: x\n\n")
    )
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with aclosing(transport.follow("/x")) as frames:
        found = [frame async for frame in frames]

    assert loop.time() - began >= 1.0
    assert found


async def test_a_lost_answer_is_asked_for_again_if_twice_is_as_good_as_once(
    script: Script, transport: Transport
) -> None:
    script.then(breaks, breaks, replies({"a": 1}))
    headers = {"Idempotency-Key": "k"}

    assert await transport.call("POST", "/x", dict, body={}, headers=headers, is_repeatable=True) == {"a": 1}
    assert {request.headers["Idempotency-Key"] for request in script.requests} == {"k"}


async def test_a_lost_answer_is_told_if_it_may_not_be_asked_for_twice(script: Script, transport: Transport) -> None:
    script.then(breaks)

    with pytest.raises(LostAnswer, match="may or may not have been done"):
        await transport.call("POST", "/x", dict)
    assert len(script.requests) == 1


async def test_a_refusal_is_not_asked_again(script: Script, transport: Transport) -> None:
    script.then(refuses(403, "forbidden", "role 'viewer' may not"))

    with pytest.raises(Forbidden):
        await transport.call("GET", "/x", dict)
    assert len(script.requests) == 1


async def test_a_redirect_is_not_followed_with_the_token(script: Script, transport: Transport) -> None:
    script.then(replies({}, status=307, Location="http://127.0.0.1:9/"))

    with pytest.raises(HubUnreachable, match="no AgentCom hub"):
        await transport.call("GET", "/x", dict)
    assert len(script.requests) == 1


async def test_a_hub_that_is_not_there_is_named_with_the_way_to_start_one() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        transport = Transport(f"http://127.0.0.1:{free.getsockname()[1]}", "", patience_s=0.0)

        with pytest.raises(HubUnreachable) as caught:
            await transport.call("GET", "/x", dict)

    assert str(caught.value) == (
        f"cannot reach the hub at {transport.url}: Connection refused; "
        "start one here with 'agentcom up', or say where one is with --hub or AGENTCOM_HUB"
    )
    await transport.close()


async def test_a_name_that_nobody_knows_is_told(script: Script) -> None:
    transport = Transport("http://no-such-host.invalid", "", patience_s=0.0)

    with pytest.raises(HubUnreachable, match="no-such-host"):
        await transport.call("GET", "/x", dict)
    await transport.close()


async def test_a_stream_ends_with_its_end_event(script: Script, transport: Transport) -> None:
    script.then(streams("retry: 1\nid: 4\n\n", ": hi\n\n", "id: 5\ndata: {}\n\nevent: e", 'nd\ndata: {"s":1}\n\n'))

    async with aclosing(transport.follow("/x")) as frames:
        found = [frame async for frame in frames]

    assert found == [Frame("", 5, b"{}"), Frame("end", None, b'{"s":1}')]


async def test_a_broken_stream_goes_on_behind_the_last_event(script: Script, transport: Transport) -> None:
    script.then(streams("id: 7\ndata: 1\n\n"), breaks, says("gone", 502), streams("event: end\ndata: 2\n\n"))

    async with aclosing(transport.follow("/x", after=3)) as frames:
        found = [frame.data async for frame in frames]

    assert found == [b"1", b"2"]
    assert [request.headers["Last-Event-ID"] for request in script.requests] == ["3", "7", "7", "7"]


async def test_a_long_event_arrives_whole(script: Script, transport: Transport) -> None:
    script.then(streams(f"id: 1\ndata: {'x' * 500_000}\n\n", "event: end\ndata: 0\n\n"))

    async with aclosing(transport.follow("/x")) as frames:
        first = await anext(frames)

    assert len(first.data) == 500_000


async def test_a_refused_stream_is_told_at_once(script: Script, transport: Transport) -> None:
    script.then(refuses(403, "forbidden", "no"))

    async with aclosing(transport.follow("/x")) as frames:
        with pytest.raises(Forbidden):
            await anext(frames)


async def test_the_hubs_clock_can_be_read_without_a_token(script: Script) -> None:
    script.then(replies({}, Date="Sat, 01 Jan 2026 00:00:00 GMT"))
    transport = Transport(script.url, "", patience_s=0.0)

    assert await transport.server_date() == "Sat, 01 Jan 2026 00:00:00 GMT"
    await transport.close()


async def test_of_several_hubs_the_next_one_is_asked_when_one_is_gone_or_cannot_serve(script: Script) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{probe.getsockname()[1]}"
    transport = Transport(f"{gone},{script.url}", "acm_x", patience_s=5.0)
    script.then(replies({"a": 1}), refuses(503, "unavailable", "cut off", **{"Retry-After": "60"}), replies({"a": 2}))

    assert await transport.call("POST", "/x", dict, body={}) == {"a": 1}
    assert transport.url == script.url
    twice = Transport(f"{script.url},{script.url}", "acm_x", patience_s=5.0)
    assert await twice.call("GET", "/x", dict) == {"a": 2}
    await transport.close()
    await twice.close()

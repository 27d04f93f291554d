"""The brief transport against a server that sends exactly these bytes."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agentcom import brief
from agentcom.answers import LostAnswer, NoHub
from agentcom.brief import BriefTransport
from protocol.errors import AgentComError, HubUnreachable, NotFound, Unavailable

T = TypeVar("T")
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n"
PROBLEM = b'{"title":"NotFound","status":404,"code":"not_found","detail":"no task x","errors":[],"retryable":false}'


class Server:
    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.url = ""
        self.was_met, self.was_asked = asyncio.Event(), asyncio.Event()
        self.serving: list[asyncio.Task[None] | None] = []


@asynccontextmanager
async def says(answer: bytes, *, hangs_up: bool = True) -> AsyncIterator[Server]:
    found = Server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.serving.append(asyncio.current_task())
        found.was_met.set()
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), 0)
            found.asked.append(head + await reader.readexactly(length))
            found.was_asked.set()
            writer.write(answer)
            await writer.drain()
            if not hangs_up:
                await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield found
        await asyncio.gather(*filter(None, found.serving))


async def without_a_loop(call: Coroutine[Any, Any, T]) -> T:
    def run() -> T:
        with pytest.raises(StopIteration) as done:
            call.send(None)
        found: T = done.value.value
        return found

    return await asyncio.to_thread(run)


async def answered(answer: bytes, path: str = "/x") -> object:
    async with says(answer) as server:
        return await without_a_loop(BriefTransport(server.url, "acm_t", patience_s=0.0).call("GET", path, dict))


@pytest.mark.parametrize(
    "rest",
    [
        b'Content-Length: 7\r\n\r\n{"a":1}',
        b'\r\n{"a":1}',
        b'Transfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n4;x=y\r\n":1}\r\n0\r\n\r\n',
    ],
)
async def test_a_body_ends_with_its_length_its_chunks_or_the_connection(rest: bytes) -> None:
    assert await answered(OK + rest) == {"a": 1}


async def test_a_word_before_the_answer_is_no_answer() -> None:
    assert await answered(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 2\r\n\r\n{}") == {}


async def test_what_is_asked_is_plain_http_with_the_token() -> None:
    async with says(OK + b"Content-Length: 2\r\n\r\n{}") as server:
        transport = BriefTransport(f"{server.url}/base", "acm_t", patience_s=0.0)
        await without_a_loop(transport.call("POST", "/x", dict, query={"label": "a:b c"}, body={"t": "ü"}))
        head, _, body = server.asked[0].partition(b"\r\n\r\n")

    assert head.splitlines()[0] == b"POST /base/x?label=a%3Ab+c HTTP/1.1"
    assert b"Authorization: Bearer acm_t" in head.splitlines()
    assert body.decode() == '{"t":"ü"}'


async def test_an_answer_without_a_body_is_none() -> None:
    async with says(b"HTTP/1.1 204 No Content\r\n\r\n") as server:
        call = BriefTransport(server.url, "", patience_s=0.0).call("DELETE", "/x", type(None))
        assert await without_a_loop(call) is None


@pytest.mark.parametrize(
    "answer, kind",
    [
        (b"HTTP/1.1 404 x\r\nContent-Type: application/problem+json\r\n\r\n" + PROBLEM, NotFound),
        (b"HTTP/1.1 503 x\r\nRetry-After: 7\r\n\r\n", Unavailable),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", NoHub),
        (b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\n\r\n", NoHub),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", LostAnswer),
        (b"HTTP/1.1 OK\r\n\r\n", LostAnswer),
        (b"", LostAnswer),
        (OK + b"Content-Length: 9\r\n\r\n{}", LostAnswer),
        (OK + b"Content-Length: x\r\n\r\n{}", LostAnswer),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", LostAnswer),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", LostAnswer),
    ],
)
async def test_what_is_no_answer_of_a_hub_is_an_error_of_ours(answer: bytes, kind: type[AgentComError]) -> None:
    with pytest.raises(kind):
        await answered(answer)


async def test_an_address_of_a_kind_that_the_system_does_not_have_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    addresses = brief._addresses

    def with_a_strange_one(host: str, port: int, ends_at: float) -> list[tuple[Any, ...]]:
        return [(250, socket.SOCK_STREAM, 0, "", ("::1", port)), *addresses(host, port, ends_at)]

    monkeypatch.setattr(brief, "_addresses", with_a_strange_one)  # which kinds a system lacks is not for a test to say
    async with says(OK + b"Content-Length: 2\r\n\r\n{}") as server:
        assert await without_a_loop(BriefTransport(server.url, "", patience_s=0.0).call("GET", "/x", dict)) == {}


async def test_nobody_there_is_told_in_the_words_of_the_system() -> None:
    async with says(b"") as server:
        url = server.url

    with pytest.raises(HubUnreachable, match="Connection refused; start one here with 'agentcom up'"):
        await without_a_loop(BriefTransport(url, "", patience_s=0.0).call("GET", "/x", dict))


async def test_nothing_can_be_smuggled_into_a_request() -> None:
    async with says(OK + b"\r\n{}") as server:
        transport = BriefTransport(server.url, "", patience_s=0.0)
        with pytest.raises(LostAnswer, match="line break"):
            await without_a_loop(transport.call("GET", "/x", dict, headers={"Idempotency-Key": "a\r\nX: y"}))

        assert server.asked == []
        await server.was_met.wait()


async def test_the_hubs_clock_is_asked_for() -> None:
    async with says(OK + b"Date: Sat, 21 Nov 2026 09:00:00 GMT\r\n\r\n{}") as server:
        asked = BriefTransport(server.url, "", patience_s=0.0).server_date()
        assert await without_a_loop(asked) == "Sat, 21 Nov 2026 09:00:00 GMT"


async def test_an_answer_that_does_not_come_is_waited_for_no_longer_than_was_said() -> None:
    async with says(b"HTTP/1.1 200 OK\r\n", hangs_up=False) as server:
        call = BriefTransport(server.url, "", patience_s=0.0).call("GET", "/x", dict, call_s=0.2)
        with pytest.raises(LostAnswer, match="no answer in time"):
            await without_a_loop(call)


async def test_a_name_is_looked_up_and_one_that_nobody_knows_is_told() -> None:
    async with says(OK + b"Content-Length: 2\r\n\r\n{}") as server:
        local = server.url.replace("127.0.0.1", "localhost")
        assert await without_a_loop(BriefTransport(local, "", patience_s=0.0).call("GET", "/x", dict)) == {}

    nowhere = BriefTransport("http://no-such-hub.invalid:7420", "", patience_s=0.0)
    with pytest.raises(HubUnreachable, match=r"no-such-hub\.invalid:7420"):
        await without_a_loop(nowhere.call("GET", "/x", dict))


async def test_a_name_that_no_host_can_have_is_one_error() -> None:
    transport = BriefTransport("http://b\u00fcro..example:7420", "", patience_s=0.0)
    with pytest.raises(HubUnreachable, match="cannot be the name of a host"):
        await without_a_loop(transport.call("GET", "/x", dict))


async def test_who_speaks_no_tls_is_told_in_the_words_of_tls() -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 this is something else\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(HubUnreachable, match=r"TLS failed: \[SSL"):
            await without_a_loop(BriefTransport(url, "", patience_s=0.0).call("GET", "/x", dict))


async def test_who_is_asked_again_is_whoever_answers() -> None:
    async with says(OK + b"Content-Length: 2\r\n\r\n{}") as server:
        async with says(b"") as gone:
            pass
        transport = BriefTransport(f"{gone.url},{server.url}", "", patience_s=5.0)

        assert await without_a_loop(transport.call("GET", "/x", dict)) == {}
        assert transport.url == server.url


async def test_ctrl_c_ends_a_command_that_waits_for_its_answer(tmp_path: Path) -> None:
    async with says(b"", hangs_up=False) as server:
        command = [sys.executable, "-m", "agentcom", "tasks", "ls", "--hub", server.url]
        was = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored in the background
        try:
            waiting = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE, cwd=tmp_path)
        finally:
            signal.signal(signal.SIGINT, was)
        await server.was_asked.wait()
        waiting.send_signal(signal.SIGINT)
        _, said = await waiting.communicate()

    assert (waiting.returncode, said.strip()) == (130, b"")


def test_a_short_command_starts_without_the_large_http_library() -> None:
    code = (
        "import sys; from agentcom.cli import run; status = run(['tasks', 'ls', '--hub', 'http://127.0.0.1:9']);"
        " print(status, *sys.modules)"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    status, *modules = said.stdout.split()
    assert status == "3"
    assert "agentcom.brief" in modules
    large = {"aiohttp", "asyncio", "ssl", "hashlib", "rich", "structlog", "psutil", "logging", "tomllib"}
    assert not {*large, "agentcom.aio", "agentcom.transport"} & set(modules)

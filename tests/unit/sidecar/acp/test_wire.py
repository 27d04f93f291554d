import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from protocol.errors import BadInput, Problem
from protocol.model import AttemptId
from sidecar.acp import wire
from sidecar.acp.wire import MAX_LINE_CHARS, MAX_OPEN, MAX_OPEN_CHARS, MAX_STRANGE, NoMethod, Params, Peer
from sidecar.errors import AgentGarbled, AgentRefused, AgentSilent, LeaseOver

ATTEMPT = AttemptId("box", 1, "01jd0000000000000000000000", 1)


class Line:
    """A peer, and what it has said, heard and passed over."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []
        self.news: list[tuple[str, Params]] = []
        self.strange: list[str] = []
        self.peer = Peer(
            self._write, self._answer, lambda method, params: self.news.append((method, params)), self.take
        )

    def take(self, line: str) -> None:
        self.strange.append(line)

    def _write(self, raw: bytes) -> None:
        assert raw.endswith(b"\n")
        self.written.append(json.loads(raw))

    async def _answer(self, method: str, params: Params) -> Mapping[str, Any]:
        if method == "echo":
            return {"said": params.get("say")}
        if method == "bad":
            raise BadInput([Problem("path", "leads out")], "params")
        if method == "over":
            raise LeaseOver(ATTEMPT)
        if method == "wait":
            await asyncio.Event().wait()
        raise NoMethod

    def feed(self, *messages: object) -> None:
        self.peer.feed("".join(f"{json.dumps(message)}\n" for message in messages))

    async def settled(self) -> None:
        """Let what is at work come to its next wait."""
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
async def line() -> Line:
    return Line()


async def test_a_question_gets_the_answer_with_its_number(line: Line) -> None:
    first, second = (asyncio.ensure_future(line.peer.ask(name, {})) for name in ("a", "b"))
    await line.settled()
    line.feed(
        {"jsonrpc": "2.0", "id": 2, "result": {"x": 2}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "message": "no"}},
    )

    assert await second == {"x": 2}
    with pytest.raises(AgentRefused, match="error -1: no"):
        await first
    assert [(said["id"], said["method"], said["jsonrpc"]) for said in line.written] == [
        (1, "a", "2.0"),
        (2, "b", "2.0"),
    ]


async def test_questions_of_the_program_are_answered_and_told_what_is_wrong(line: Line) -> None:
    line.feed(
        {"id": "x", "method": "echo", "params": {"say": "hi"}},
        {"id": 7, "method": "bad"},
        {"id": 8, "method": "none", "params": [1]},
        {"method": "news", "params": {"n": 1}},
    )
    await line.settled()

    assert {said["id"]: said.get("result") or said["error"]["code"] for said in line.written} == {
        "x": {"said": "hi"},
        7: wire.INVALID_PARAMS,
        8: wire.NO_METHOD,
    }
    assert line.news == [("news", {"n": 1})]


async def test_messages_come_in_any_pieces(line: Line) -> None:
    text = json.dumps({"method": "news", "params": {"said": "ü\n"}}) + "\n"
    for char in text:
        line.peer.feed(char)

    assert line.news == [("news", {"said": "ü\n"})]


@pytest.mark.parametrize(
    "strange", ["Loading...", "[1, 2]", '"text"', "{", "{}", '{"id": {}, ', "[" * 100_000, "\ud800"]
)
async def test_lines_that_are_no_messages_are_passed_over(line: Line, strange: str) -> None:
    line.peer.feed(f"{strange}\n\n")
    line.feed({"method": "news"})

    assert line.strange == [strange]
    assert line.news == [("news", {})]


async def test_an_answer_that_nobody_waits_for_is_no_harm(line: Line) -> None:
    line.feed({"id": 99, "result": {}}, {"id": "x", "result": {}}, {"id": [1], "error": {}})

    assert (line.strange, line.news) == ([], [])


async def test_who_never_speaks_the_protocol_is_given_up(line: Line) -> None:
    line.peer.feed("x\n" * MAX_STRANGE)

    with pytest.raises(AgentGarbled, match="no messages"):
        line.peer.feed("x\n")


async def test_a_line_without_an_end_is_given_up(line: Line) -> None:
    line.peer.feed("x" * MAX_LINE_CHARS)

    with pytest.raises(AgentGarbled, match="more than 16 MiB"):
        line.peer.feed("x")


async def test_more_questions_than_can_be_worked_on_are_refused(line: Line) -> None:
    line.feed(*({"id": number, "method": "wait"} for number in range(MAX_OPEN + 1)))

    assert line.peer.is_busy
    assert [(said["id"], said["error"]["code"]) for said in line.written] == [(MAX_OPEN, wire.BUSY)]
    await line.peer.close()
    assert not line.peer.is_busy


async def test_questions_that_take_too_much_memory_together_are_refused(line: Line) -> None:
    long = "x" * (MAX_OPEN_CHARS // 3)
    line.feed(*({"id": number, "method": "wait", "params": {"say": long}} for number in range(3)))
    await line.settled()

    assert [(said["id"], said["error"]["code"]) for said in line.written] == [(2, wire.BUSY)]
    await line.peer.close()
    line.feed({"id": 3, "method": "echo", "params": {"say": long}})
    await line.settled()
    assert line.written[-1]["result"] == {"said": long}


async def test_the_end_of_a_lease_ends_the_conversation(line: Line) -> None:
    asked = asyncio.ensure_future(line.peer.ask("a", {}))
    await line.settled()
    line.feed({"id": 1, "method": "over"})

    with pytest.raises(LeaseOver):
        await asked
    with pytest.raises(LeaseOver):
        await line.peer.ask("b", {})


async def test_no_answer_in_time_is_silence(line: Line) -> None:
    with pytest.raises(AgentSilent, match="no answer to a"):
        await line.peer.ask("a", {}, 0.0)

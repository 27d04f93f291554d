"""The promises of live output."""

import asyncio
from dataclasses import dataclass, field

from protocol.limits import MAX_LOG_BYTES, MAX_LOG_CHUNK_BYTES
from protocol.messages import Log, Message
from protocol.model import AttemptId
from sidecar.live_log import BATCH_BYTES, LiveLog

ATTEMPT = AttemptId("Arbitrary", 1, "t", 1)


@dataclass
class Sent:
    """A line that keeps what is sent."""

    log_room: int = 1 << 30
    messages: list[Log] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, message: Message) -> None:
        assert isinstance(message, Log)
        self.messages.append(message)
        self.arrived.set()


async def test_small_pieces_travel_together_soon() -> None:
    sent = Sent()
    live = LiveLog(ATTEMPT, sent)
    for text in ("one ", "two ", ""):
        live.write("stdout", text)
    live.write("stderr", "oops\n")

    assert sent.messages == []

    await sent.arrived.wait()

    assert [(m.stream, m.text, m.offset) for m in sent.messages] == [("stdout", "one two ", 0), ("stderr", "oops\n", 8)]


async def test_a_full_batch_does_not_wait() -> None:
    sent = Sent()
    LiveLog(ATTEMPT, sent).write("stdout", "y" * BATCH_BYTES)

    assert len(sent.messages) == 1


async def test_large_output_is_cut_into_pieces_that_fit_whatever_it_is_written_in() -> None:
    sent = Sent()
    text = "é漢🎈x" * 20_000 + "\ud800"
    LiveLog(ATTEMPT, sent).write("stdout", text)

    assert max(len(m.text.encode()) for m in sent.messages) <= MAX_LOG_CHUNK_BYTES
    assert "".join(m.text for m in sent.messages) == text[:-1] + "?"
    ends = [m.offset + len(m.text.encode()) for m in sent.messages]
    assert [m.offset for m in sent.messages] == [0, *ends[:-1]]


async def test_output_that_the_line_does_not_take_is_dropped_and_counted() -> None:
    sent = Sent(log_room=10)
    live = LiveLog(ATTEMPT, sent)
    for text in ("first ", "much too long for it", "last"):
        live.write("stdout", text)
        live.flush()

    assert [m.text for m in sent.messages] == [
        "first ", "\n[... 20 bytes of output were not sent, the hub was behind ...]\n", "last",
    ]  # fmt: skip
    assert sent.messages[-1].offset == 26


async def test_output_without_end_stops_with_one_mark() -> None:
    sent = Sent()
    live = LiveLog(ATTEMPT, sent)
    for _ in range(MAX_LOG_BYTES // 100_000 + 20):
        live.write("stdout", "x" * 100_000)

    assert sum(len(m.text) for m in sent.messages) <= MAX_LOG_BYTES + 100
    assert [m.text for m in sent.messages if "not shown live" in m.text] == [
        f"\n[... output beyond {MAX_LOG_BYTES} bytes is not shown live ...]\n"
    ]
    assert all(m.offset < MAX_LOG_BYTES for m in sent.messages)


async def test_output_left_out_at_the_very_end_is_told_too() -> None:
    sent = Sent(log_room=0)
    live = LiveLog(ATTEMPT, sent)
    live.write("stdout", "x" * 100)
    live.close()
    live.close()

    assert [m.text for m in sent.messages] == ["\n[... 100 bytes of output were not sent, the hub was behind ...]\n"]

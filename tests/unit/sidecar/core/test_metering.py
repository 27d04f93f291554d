"""Answers of both kinds, whole and streamed, in the shapes that their makers document."""

import json

import pytest

from sidecar.core.metering import MAX_LINE_BYTES, Meter, Metered

CLAUDE = {
    "id": "msg_1",
    "type": "message",
    "model": "claude-sonnet-5",
    "content": [{"type": "text", "text": "hello"}],
    "usage": {
        "input_tokens": 10,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 300,
        "output_tokens": 5,
    },
}
CHAT = {
    "model": "gpt-5",
    "choices": [{"message": {"content": "hello"}}],
    "usage": {"prompt_tokens": 330, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 300}},
}
RESPONSES = {
    "model": "gpt-5",
    "output": [],
    "usage": {"input_tokens": 330, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 300}},
}


def events(*found: object) -> bytes:
    return b"".join(
        f"event: x\ndata: {each if isinstance(each, str) else json.dumps(each)}\n\n".encode() for each in found
    )


CLAUDE_STREAM = (
    {"type": "message_start", "message": {**CLAUDE, "usage": {**CLAUDE["usage"], "output_tokens": 1}}},  # type: ignore[dict-item]  # a dict
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x" * 350}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 120}},
    {"type": "message_stop"},
)
CHAT_STREAM = (
    {"model": "gpt-5", "choices": [{"delta": {"content": "x" * 350}}], "usage": None},
    {"model": "gpt-5", "choices": [], "usage": CHAT["usage"]},
    "[DONE]",
)
RESPONSES_STREAM = (
    {"type": "response.output_text.delta", "delta": "hello"},
    {"type": "response.completed", "response": RESPONSES},
)


@pytest.mark.parametrize(
    "answer, counted",
    [
        (json.dumps(CLAUDE).encode(), Metered("claude-sonnet-5", 330, 5, 300, 20)),
        (json.dumps(CLAUDE, indent=2).encode(), Metered("claude-sonnet-5", 330, 5, 300, 20)),
        (json.dumps(CHAT).encode(), Metered("gpt-5", 330, 5, 300)),
        (json.dumps(RESPONSES).encode(), Metered("gpt-5", 330, 5, 300)),
        (events(*CLAUDE_STREAM), Metered("claude-sonnet-5", 330, 120, 300, 20)),
        (events(*CHAT_STREAM), Metered("gpt-5", 330, 5, 300)),
        (events(*RESPONSES_STREAM), Metered("gpt-5", 330, 5, 300)),
        (b'{"data": [], "model": "e", "usage": {"prompt_tokens": 8, "total_tokens": 8}}', Metered("e", 8, 0)),
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_what_an_answer_says_of_itself_is_counted_in_whatever_pieces_it_comes(
    answer: bytes, counted: Metered, piece: int
) -> None:
    meter = Meter(1_000)
    for start in range(0, len(answer), piece):
        meter.feed(answer[start : start + piece])

    assert meter.read() == counted


@pytest.mark.parametrize(
    "answer, read, written",
    [
        (events(*CLAUDE_STREAM[:2]), 330, 100),  # it was hung up on before its end
        (events(CHAT_STREAM[0], "[DONE]"), 286, 100),  # nobody asked for the usage
        (b"", 286, 0),
        (b"data: nonsense\n\ndata: [1]\n\n", 286, 0),
        (b"x" * 350, 286, 100),
        (b"[" * 350, 286, 100),
        (b'{"usage": {"prompt_tokens": -5, "completion_tokens": "many", "x": true}}' + b" " * 278, 286, 100),
    ],
)
def test_what_an_answer_leaves_out_is_estimated_rather_too_high(answer: bytes, read: int, written: int) -> None:
    meter = Meter(1_000)
    meter.feed(answer)
    found = meter.read()

    assert found.is_estimate
    assert found.read >= read
    assert found.written >= written


def test_an_endless_line_takes_no_memory_and_what_comes_after_it_counts() -> None:
    meter = Meter(10)
    meter.feed(b"data: {}\n")
    for _ in range(MAX_LINE_BYTES // (1 << 20) + 2):
        meter.feed(b"x" * (1 << 20))
    meter.feed(b"\n" + events(CHAT_STREAM[1]))

    assert len(meter._line) == 0
    assert (meter.read().read, meter.read().written) == (330, 5)

import asyncio

import pytest

from protocol.errors import BudgetSpent, EndpointBusy, EndpointDown, EndpointRefused
from protocol.model import Usage
from sidecar.errors import ServerFull
from sidecar.llm.base import (
    TRIES,
    ChatMessage,
    ChatReply,
    ChatRequest,
    PartialCall,
    ToolCall,
    ToolSpec,
    estimate_tokens,
    patiently,
    whole_call,
    whole_text,
)

REPLY = ChatReply("hi", "stop", Usage())


class Answers:
    """Raises its errors one after the other, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked = 0

    async def __call__(self) -> ChatReply:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return REPLY


async def test_a_busy_endpoint_is_asked_again_after_the_wait_it_names() -> None:
    answers = Answers(EndpointBusy("e", "busy", 0.0), EndpointDown("e", "broke off"))

    assert await patiently(answers, timeout_s=5) is REPLY
    assert answers.asked == 3


async def test_a_full_server_is_waited_for_and_uses_up_no_try() -> None:
    full = [ServerFull("e", f"full {n}") for n in range(2 * TRIES)]
    answers = Answers(*full, EndpointDown("e", "broke off"), ServerFull("e", "full"), EndpointDown("e", "broke off"))

    assert await patiently(answers, timeout_s=60, full_wait_s=0.0001) is REPLY
    assert answers.asked == 2 * TRIES + 4


async def test_time_that_went_by_in_the_queue_of_a_server_is_no_spent_budget() -> None:
    async def full_then_silent() -> ChatReply:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise ServerFull("e", "full")
        await asyncio.Event().wait()
        return REPLY

    asked = 0
    with pytest.raises(ServerFull):
        await patiently(full_then_silent, timeout_s=0.2, full_wait_s=0.15)
    assert asked == 2


async def test_the_third_failure_is_the_last() -> None:
    answers = Answers(*(EndpointBusy("e", f"busy {n}", 0.0) for n in (1, 2, 3)))

    with pytest.raises(EndpointBusy, match="busy 3"):
        await patiently(answers, timeout_s=5)


@pytest.mark.parametrize(
    "error", [EndpointBusy("e", "come tomorrow", 3600), EndpointBusy("e", "busy", 4.0), EndpointRefused("e", "no")]
)
async def test_no_wait_that_cannot_pay_off_is_begun(error: EndpointDown) -> None:
    answers = Answers(error)

    with pytest.raises(type(error)):
        await patiently(answers, timeout_s=2)

    assert answers.asked == 1


async def test_an_answer_that_never_comes_is_a_spent_budget() -> None:
    async def silence() -> ChatReply:
        await asyncio.Event().wait()
        return REPLY

    with pytest.raises(BudgetSpent, match="seconds for one model answer"):
        await patiently(silence, timeout_s=0.01)


@pytest.mark.parametrize(
    "pieces, arguments, problem",
    [
        (['{"pa', 'th": "a"}'], {"path": "a"}, ""),
        ([], {}, ""),
        (['{"path"'], {}, "the arguments are not valid JSON"),
        (["[1]"], {}, "the arguments must be a JSON object"),
        (["[" * 100_000], {}, "the arguments are not valid JSON"),
    ],
)
def test_arguments_that_cannot_be_read_are_told_not_raised(
    pieces: list[str], arguments: dict[str, str], problem: str
) -> None:
    call = PartialCall("c", "look", pieces).whole()

    assert call.arguments == arguments
    assert call.problem.startswith(problem)
    assert bool(call.problem) is bool(problem)


def test_the_estimate_counts_everything_that_is_sent() -> None:
    bare = ChatRequest(messages=(ChatMessage("user", "x" * 350),))
    full = ChatRequest(
        system="s" * 350,
        messages=(*bare.messages, ChatMessage("assistant", "", (ToolCall("1", "t", {"a": "b" * 350}),))),
        tools=(ToolSpec("t", "d" * 350, {"type": "object"}),),
    )

    assert estimate_tokens(bare) == 116
    assert estimate_tokens(full) > 4 * 100


def test_a_character_that_was_cut_in_two_is_whole_again_and_half_a_one_is_replaced() -> None:
    assert whole_text(["a\ud83d", "\ude00b"]) == "a\U0001f600b"
    assert whole_text(["a\ud83d"]) == "a\ufffd"


def test_half_a_character_in_a_call_is_taken_out() -> None:
    whole = ToolCall("1", "write", {"path": "ä", "lines": ["\U0001f600"]})

    assert whole_call(whole) is whole
    assert whole_call(ToolCall("1", "no\ud800", {"x\udfff": ["\ud83d"], "y": 1.5})) == (
        ToolCall("1", "no\ufffd", {"x\ufffd": ["\ufffd"], "y": 1.5})
    )

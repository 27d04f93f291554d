import asyncio
import contextlib

import pytest

from protocol.loads import Answering, AnswerPhase
from protocol.model import Timing, Usage
from sidecar.errors import AnswerEndless, EndpointStalled
from sidecar.llm.base import ChatMessage, ChatRequest, estimate_tokens
from sidecar.llm.flow import MEASURED_SHARE, SLOWEST_LOAD, SLOWEST_READING, UNKNOWN_BYTES, Traffic

STALL_S = 10.0
REQUEST = ChatRequest(messages=(ChatMessage("user", "word " * 700),))
TOKENS = estimate_tokens(REQUEST)


@pytest.fixture
async def traffic() -> Traffic:
    return Traffic("box", stall_s=STALL_S)


def usage(tokens: int, seconds: float, cached: int = 0) -> Usage:
    timing = Timing(model_s=seconds, prefill_s=seconds)
    return Usage(input_tokens=tokens, cached_input_tokens=cached, timing=timing)


async def test_reading_a_long_prompt_is_no_silence_and_a_load_of_minutes_neither(traffic: Traffic) -> None:
    flow = traffic.begin(REQUEST, "m")
    reading_s = STALL_S + TOKENS / SLOWEST_READING

    assert flow.allowance_s == pytest.approx(reading_s)
    flow.must_load(40e9)
    assert flow.allowance_s == pytest.approx(reading_s + 40e9 / SLOWEST_LOAD)
    flow.must_load(None)
    assert flow.allowance_s == pytest.approx(reading_s + UNKNOWN_BYTES / SLOWEST_LOAD)
    flow.take("word")
    assert flow.allowance_s == STALL_S


async def test_a_server_that_was_measured_is_given_its_own_time(traffic: Traffic) -> None:
    traffic.measured("m", usage(tokens=5_000, cached=1_000, seconds=2.0))
    traffic.measured("m", usage(tokens=10, seconds=2.0))  # too short to tell anything

    assert traffic.begin(REQUEST, "m").allowance_s == pytest.approx(STALL_S + TOKENS / (2_000 * MEASURED_SHARE))
    assert traffic.begin(REQUEST, "other").allowance_s == pytest.approx(STALL_S + TOKENS / SLOWEST_READING)


async def test_what_is_read_already_needs_no_time(traffic: Traffic) -> None:
    flow = traffic.begin(REQUEST, "m")

    flow.reads(0.75)

    assert flow.allowance_s == pytest.approx(STALL_S + TOKENS / 4 / SLOWEST_READING)
    assert flow.snapshot().read == 0.75


async def test_how_an_answer_comes_along_can_be_asked(traffic: Traffic) -> None:
    flow = traffic.begin(REQUEST, "m")
    flow.must_load(1e9)
    loading = flow.snapshot()
    flow.take("a", is_shown=False)
    flow.take("b")
    flow.take("")
    writing = flow.snapshot()

    assert (loading.phase, loading.tokens) == (AnswerPhase.LOADING, 0)
    assert (writing.phase, writing.tokens, writing.model, writing.endpoint) == (AnswerPhase.WRITING, 2, "m", "box")
    assert writing.in_words.startswith("m writes, 2 tokens so far after 0 s, last sign of life 0 s ago")


async def test_silence_ends_the_wait_and_a_piece_prolongs_it() -> None:
    traffic = Traffic("box", stall_s=0.1)
    flow = traffic.begin(ChatRequest(messages=()), "m")
    flow.take("begun")

    with pytest.raises(EndpointStalled) as caught:
        async with flow.watched():
            await asyncio.Event().wait()

    assert (caught.value.phase, caught.value.tokens) == ("writing", 1)
    assert not flow.is_open


async def test_a_timeout_of_the_caller_is_the_callers(traffic: Traffic) -> None:
    flow = traffic.begin(REQUEST, "m")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), flow.watched():
            await asyncio.Event().wait()


async def test_whoever_waits_behind_another_request_of_ours_is_not_stalled() -> None:
    """The server answers one at a time: the second says nothing for as long as the first writes."""
    traffic = Traffic("box", stall_s=0.6)
    request = ChatRequest(messages=())
    traffic.reading["m"] = 1e9
    first, second = traffic.begin(request, "m"), traffic.begin(request, "m")
    waited: list[float] = []

    async def writes() -> None:
        async with first.watched():
            while second.snapshot().seconds < 1.5:
                await asyncio.sleep(0.05)
                first.take("word ")

    async def waits() -> None:
        async with second.watched():
            await writing
            waited.append(second.snapshot().silent_s)

    writing = asyncio.create_task(writes())
    await waits()

    assert waited[0] > 0.6


async def test_an_answer_may_be_long_and_not_endless(traffic: Traffic) -> None:
    request = ChatRequest(messages=(), max_output_tokens=1_000)
    one, other = traffic.begin(request, "m"), traffic.begin(request, "m")
    for _ in range(2_000):
        one.take("word ")

    with pytest.raises(AnswerEndless, match="2001 pieces where 1000 tokens were allowed"):
        one.take("word ")
    with pytest.raises(AnswerEndless):
        other.take("x" * 40_000)


async def test_what_was_shown_of_an_answer_that_broke_off_is_marked(traffic: Traffic) -> None:
    heard: list[str] = []
    asked: list[Answering | None] = []
    request = ChatRequest(
        messages=(), on_text=heard.append, on_flow=lambda ask: asked.append(None if ask is None else ask())
    )
    broken, whole = traffic.begin(request, "m"), traffic.begin(request, "m")

    async def breaks() -> None:
        async with broken.watched():
            broken.take("half of")
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await breaks()
    async with whole.watched():
        whole.take("all")
        whole.is_whole = True

    assert heard == ["half of", "\n[the answer broke off here]\n", "all"]
    assert [entry is None for entry in asked] == [False, True, False, True]


async def test_a_model_loads_until_the_first_word(traffic: Traffic) -> None:
    flow = traffic.begin(REQUEST, "m")
    flow.must_load(None)

    assert not traffic.loads("m")  # nobody waits yet
    async with flow.watched():
        assert traffic.loads("m")
        assert not traffic.loads("n")
        flow.take("word")
        assert not traffic.loads("m")


async def test_a_wait_for_a_turn_shows_in_the_first_piece_once_it_was_measured_without_others(traffic: Traffic) -> None:
    unmeasured = await _begun(traffic, first_s=1.0, beside=1)
    alone = await _begun(traffic, first_s=1.0)
    little, long = [await _begun(traffic, first_s=first_s, beside=1) for first_s in (1.8, 9.0)]

    assert (unmeasured, alone, little) == (None, 0.0, 0.0)
    assert long == pytest.approx(9.0 - 2 * 1.0)


async def test_a_load_hides_how_long_a_turn_was_waited_for(traffic: Traffic) -> None:
    flow = traffic.begin(REQUEST, "m")
    flow.must_load(1e9)
    before = flow.waited_s()
    flow.take("word")

    assert (before, flow.waited_s()) == (None, None)


async def _begun(traffic: Traffic, *, first_s: float, beside: int = 0) -> float | None:
    """What a request says that it waited, whose first piece came after so long, beside so many others."""
    async with contextlib.AsyncExitStack() as others:
        for _ in range(beside):
            await others.enter_async_context(traffic.begin(REQUEST, "m").watched())
        flow = traffic.begin(REQUEST, "m")
        flow.first_s = first_s
        return flow.waited_s()

"""What a report teaches: speeds of the server that it used, and what its kind of task asks for."""

import pytest
from msgspec.structs import replace

from hub.core.agent import Held
from hub.core.fleet import Fleet
from hub.core.speeds import FIRST_DEMAND, REUSE, Speeds
from hub.core.turns import PATIENCE
from hub.services.learning import Learning
from hub.store.sqlite import SqliteStore
from protocol.clock import Clock
from protocol.model import EndpointKind, Timing, Usage
from tests.support.machines import add, model

SERVER = ("a", "ollama")
TIMING = Timing(model_s=1.0)


class Still(Clock):
    def now_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return 500.0


def learning() -> tuple[Fleet, Speeds, Learning]:
    fleet, speeds = Fleet(), Speeds()
    add(fleet, "a", model("m", 4.0))
    return fleet, speeds, Learning(SqliteStore(":memory:"), fleet, speeds, Still())


def held(name: str = "m") -> Held:
    return Held("t", 1, "a", 1, 0.0, server=SERVER, model=name, kind="class")


def test_a_split_of_the_time_gives_all_three_speeds() -> None:
    fleet, speeds, learn = learning()
    tokens = {"input_tokens": 300, "cached_input_tokens": 100, "output_tokens": 50}
    timing = Timing(model_s=11.0, load_s=8.0, prefill_s=0.5, decode_s=2.0)
    learn.used(held(), Usage(model="m", **tokens, timing=timing))

    found = speeds.of(SERVER, fleet.agents["a"].endpoints[0], model("m", 4.0), None)
    assert (found.load_s, found.prefill_tokens_per_s, found.decode_tokens_per_s) == pytest.approx((8.0, 400.0, 25.0))
    assert found.used_at == 500.0
    assert speeds.demand("class", "chat").input_tokens == 300


def test_without_a_split_all_the_time_counts_as_writing() -> None:
    fleet, speeds, learn = learning()
    before = speeds.of(SERVER, fleet.agents["a"].endpoints[0], model("m", 4.0), None)
    learn.used(held(), Usage(model="m", input_tokens=300, output_tokens=50, timing=Timing(model_s=10.0)))

    found = speeds.of(SERVER, fleet.agents["a"].endpoints[0], model("m", 4.0), None)
    assert found.decode_tokens_per_s == pytest.approx(5.0)
    assert found.prefill_tokens_per_s == pytest.approx(before.prefill_tokens_per_s)


@pytest.mark.parametrize(
    "attempt, usage",
    [
        (Held("t", 1, "a", 1, 0.0, kind="class"), Usage(output_tokens=50, timing=TIMING)),
        (held(), Usage(output_tokens=50)),
        (held(), Usage(input_tokens=5, timing=TIMING)),
        (
            Held("t", 1, "a", 1, 0.0, server=("a", "gone"), model="m", kind="other"),
            Usage(output_tokens=50, timing=TIMING),
        ),
    ],
)
def test_work_without_a_model_without_an_answer_or_without_its_endpoint_teaches_no_speed(
    attempt: Held, usage: Usage
) -> None:
    fleet, speeds, learn = learning()
    learn.used(attempt, usage)

    assert not speeds.of(SERVER, fleet.agents["a"].endpoints[0], model("m", 4.0), None).is_measured
    assert speeds.demand("class", "chat") == FIRST_DEMAND["chat"]


def test_money_other_seconds_and_the_repository_are_remembered() -> None:
    fleet, speeds, learn = learning()
    attempt = held()
    attempt.repo = "r"
    usage = Usage(model="m", input_tokens=50, output_tokens=10, cost_usd=0.5, seconds=9.0, timing=Timing(model_s=4.0))
    learn.used(attempt, usage)

    endpoint = fleet.agents["a"].endpoints[0]
    assert speeds.demand("class", "chat").verify_s == 5.0
    assert speeds.usd(SERVER, endpoint, "m", speeds.demand("class", "chat")) == pytest.approx(0.5)
    assert fleet.has_repo("a", "r")
    assert not fleet.has_repo("a", "other")


async def test_what_was_learnt_is_stored_and_found_by_the_next_hub() -> None:
    fleet, speeds = Fleet(), Speeds()
    add(fleet, "a", model("m", 4.0))
    store = SqliteStore(":memory:")
    await store.open()
    learn = Learning(store, fleet, speeds, Still())
    learn.used(held(), Usage(model="m", input_tokens=300, output_tokens=50, timing=Timing(model_s=10.0)))
    learn.keep()
    learn.keep()
    next_one = Speeds()
    next_one.recall((await store.start(1)).measures)

    assert next_one.demand("class", "chat") == speeds.demand("class", "chat")
    found = next_one.of(SERVER, fleet.agents["a"].endpoints[0], model("m", 4.0), None)
    assert (found.decode_tokens_per_s, found.is_measured) == (pytest.approx(5.0), True)
    await store.close()


async def test_the_turns_of_a_server_are_learnt_and_kept_over_a_restart() -> None:
    fleet, speeds = Fleet(), Speeds()
    add(fleet, "a", model("m", 4.0), slots=9, parallel=0)
    endpoint = fleet.agents["a"].endpoints[0]
    store = SqliteStore(":memory:")
    await store.open()
    learn = Learning(store, fleet, speeds, Still())
    for number in range(PATIENCE):
        attempt = replace(held(), task=str(number))
        fleet.take(attempt)
        learn.used(attempt, Usage(model="m", output_tokens=5, timing=Timing(model_s=4.0, queue_s=0.0)))
        fleet.release(attempt.task, attempt.epoch)
    two = speeds.turns(SERVER, endpoint).most
    learn.keep()
    next_one = Speeds()
    next_one.recall((await store.start(1)).measures)
    await store.close()

    assert two == 2
    assert next_one.turns(SERVER, endpoint) == speeds.turns(SERVER, endpoint)
    told = replace(endpoint, parallel=5)  # from now on the server says it itself
    assert next_one.turns(SERVER, told).most == 5


def test_who_waited_behind_others_of_ours_tells_that_they_were_too_many() -> None:
    fleet, speeds, learn = learning()
    add(fleet, "a", model("m", 4.0), slots=9, parallel=0)
    endpoint = fleet.agents["a"].endpoints[0]
    for _ in range(PATIENCE):
        speeds.answered(SERVER, endpoint, 1, queue_s=0.0, model_s=4.0)
    first, second = replace(held(), task="1"), replace(held(), task="2")
    fleet.take(first)
    fleet.take(second)
    before = speeds.turns(SERVER, endpoint).most
    learn.used(second, Usage(model="m", output_tokens=5, timing=Timing(model_s=8.0, queue_s=4.0)))

    assert (first.crowd, second.crowd) == (1, 2)
    assert (before, speeds.turns(SERVER, endpoint).most) == (2, 1)


CHAT = '{"executor":"chat","strategies":["local_llm"]}'


@pytest.mark.parametrize("cached_tokens, grows", [(1_000, True), (0, False)], ids=["it had it", "it had it not"])
def test_a_server_that_tells_what_it_had_in_memory_is_believed(cached_tokens: int, grows: bool) -> None:
    fleet, speeds, learn = learning()
    agent = fleet.agents["a"]
    agent.endpoints = (replace(agent.endpoints[0], kind=EndpointKind.OPENAI),)
    attempt = replace(held(), kind=CHAT, known_tokens=1_000)
    usage = {"model": "m", "input_tokens": 2_000, "output_tokens": 5, "cached_input_tokens": cached_tokens}
    learn.used(attempt, Usage(**usage, timing=Timing(model_s=2.0, prefill_s=1.0, decode_s=1.0)))

    assert (speeds.reuse(SERVER, agent.endpoints[0]) > REUSE) is grows
    speed = speeds.of(SERVER, agent.endpoints[0], model("m", 4.0), None)
    assert speed.prefill_tokens_per_s == pytest.approx(2_000 - cached_tokens)


def test_what_ollama_had_in_memory_is_told_by_the_time_it_took_and_spoils_no_speed() -> None:
    fleet, speeds, learn = learning()
    endpoint = fleet.agents["a"].endpoints[0]
    attempt, known = held(), replace(held(), kind=CHAT, known_tokens=1_000)
    learn.used(attempt, Usage(model="m", input_tokens=2_000, output_tokens=5, timing=timing(prefill_s=1.0)))
    learn.used(known, Usage(model="m", input_tokens=2_000, output_tokens=5, timing=timing(prefill_s=1.0)))
    whole = speeds.reuse(SERVER, endpoint)
    for _ in range(30):
        learn.used(known, Usage(model="m", input_tokens=2_000, output_tokens=5, timing=timing(prefill_s=0.5)))

    assert whole < REUSE, "all of it was read again"
    assert speeds.reuse(SERVER, endpoint) == pytest.approx(1.0, abs=0.01)
    assert speeds.of(SERVER, endpoint, model("m", 4.0), None).prefill_tokens_per_s == pytest.approx(2_000)


def timing(prefill_s: float) -> Timing:
    return Timing(model_s=prefill_s + 1.0, prefill_s=prefill_s, decode_s=1.0)


def test_when_a_model_was_used_last_is_known_also_after_a_restart() -> None:
    _, speeds, learn = learning()
    learn.used(held("unused"), Usage(model="none", seconds=1.0))
    learn.used(held(), Usage(model="m", input_tokens=300, output_tokens=50, timing=Timing(model_s=10.0)))
    later = Speeds()
    later.recall(speeds.changes())

    for known in (speeds, later):
        assert (known.last_use_ms(SERVER, "m"), known.last_use_ms(SERVER)) == (0, 0)
        assert known.last_use_ms(SERVER, "unused") is None
        assert known.written_per_s(SERVER, "m") == pytest.approx(5.0)
        assert known.written_per_s(SERVER, "unused") is None

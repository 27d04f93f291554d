"""What work for a model costs on each server: the sum, its terms, and what can never be."""

import pytest
from msgspec.structs import replace

from hub.core.agent import Held
from hub.core.board import CLONE_S, FETCH_S, Board, find
from hub.core.fleet import Fleet
from hub.core.health import Health
from hub.core.prefixes import BLOCK_TOKENS
from hub.core.routing import Way
from hub.core.speeds import REUSE, Demand, Speeds
from hub.core.terms import Rates, Terms, Weighed
from hub.core.turns import PATIENCE
from protocol.endpoints import EndpointState
from protocol.model import EndpointKind, EndpointReport, ModelReport, Residency, Strategy
from tests.support.machines import GB, add, gpu, host, model, ollama

WARM = Residency.WARM
DEMAND = Demand(1_000.0, 100.0)  # at 50 tokens/s and 20 times that for reading: 1 s and 2 s
NOW = 1_000.0


def way(agent: str, name: str = "m", endpoint: str = "ollama") -> Way:
    return Way(agent=agent, strategy=Strategy.LOCAL_LLM, endpoint=endpoint, model=name)


def weighed(board: Board, chosen: Way) -> Weighed:
    found = board.weigh(chosen, DEMAND)
    assert isinstance(found, Weighed), found
    return found


def holds(fleet: Fleet, agent: str, task: str, name: str, ends_at: float | None, service_s: float = 3.0) -> None:
    held = Held(task, 1, agent, 1, NOW)
    held.server, held.model, held.ends_at, held.service_s = (agent, "ollama"), name, ends_at, service_s
    fleet.take(held)


def test_a_warm_idle_server_costs_reading_and_writing() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", residency=WARM))
    terms = weighed(Board(fleet, Speeds(), NOW), way("a")).terms

    assert (terms.wait_s, terms.evict_s, terms.load_s) == (0, 0, 0)
    assert (terms.prefill_s, terms.decode_s) == pytest.approx((1.0, 2.0))
    assert terms.total_s == pytest.approx(3.0)


def test_a_cold_model_costs_its_load() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", 4.0))

    assert weighed(Board(fleet, Speeds(), NOW), way("a")).terms.load_s == pytest.approx(4.0)


def test_a_busy_server_costs_the_wait_until_a_turn_is_free() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", residency=WARM), parallel=2)
    holds(fleet, "a", "t1", "m", NOW + 5)
    one = weighed(Board(fleet, Speeds(), NOW), way("a")).terms.wait_s
    holds(fleet, "a", "t2", "m", NOW + 9)
    two = weighed(Board(fleet, Speeds(), NOW), way("a")).terms.wait_s

    assert (one, two) == (0.0, 5.0)


def test_an_attempt_that_is_overdue_is_expected_to_take_a_little_more() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", residency=WARM))
    holds(fleet, "a", "t1", "m", NOW - 50, service_s=20.0)

    assert weighed(Board(fleet, Speeds(), NOW), way("a")).terms.wait_s == 5.0


def test_an_agent_without_a_free_slot_is_waited_for_like_a_server() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", residency=WARM), slots=1, parallel=4)
    holds(fleet, "a", "t1", "m", NOW + 7)

    assert weighed(Board(fleet, Speeds(), NOW), way("a")).terms.wait_s == 7.0


def test_what_is_pushed_out_costs_its_reload_if_somebody_waits_for_it() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", 10.0), model("x", 16.0, WARM))
    unwanted = weighed(Board(fleet, Speeds(), NOW), way("a"))
    wanted = weighed(Board(fleet, Speeds(), NOW, lambda name: 3 if name == "x" else 0), way("a"))

    assert unwanted.evicted == wanted.evicted == ("x",)
    assert unwanted.terms.evict_s == pytest.approx(0.3 * 16.0)
    assert wanted.terms.evict_s == pytest.approx(16.0)


def test_only_as_much_is_pushed_out_as_is_needed_and_never_what_is_busy_now() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", 10.0), model("x", 8.0, WARM), model("y", 8.0, WARM), parallel=2)
    holds(fleet, "a", "t1", "x", NOW + 40)

    found = weighed(Board(fleet, Speeds(), NOW), way("a"))
    assert found.evicted == ("y",)
    assert found.terms.wait_s == 0.0


def test_a_model_in_use_that_stands_in_the_way_is_waited_for() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", 20.0), model("x", 8.0, WARM), parallel=2)
    holds(fleet, "a", "t1", "x", NOW + 40)

    found = weighed(Board(fleet, Speeds(), NOW), way("a"))
    assert (found.evicted, found.terms.wait_s) == (("x",), 40.0)


def test_a_model_that_can_never_fit_is_refused_with_the_figures() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", 30.0))

    assert Board(fleet, Speeds(), NOW).weigh(way("a"), DEMAND) == "has 22.8 GB for models, it needs 30.0 GB"


def test_memory_that_others_use_is_not_ours() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", 12.0), model("x", 4.0, WARM))
    fleet.agents["a"].report = host(gpu(24, used_gb=16))  # 4 ours, 12 somebody's

    assert Board(fleet, Speeds(), NOW).weigh(way("a"), DEMAND) == "has 10.8 GB for models, it needs 12.0 GB"


def test_nothing_is_refused_or_pushed_out_where_nobody_knows_the_memory() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", 100.0), model("x", 100.0, WARM))
    fleet.agents["a"].report = None

    found = weighed(Board(fleet, Speeds(), NOW), way("a"))
    assert found.evicted == ()


def test_what_is_reserved_is_reckoned_with() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", 4.0))
    board = Board(fleet, Speeds(), NOW)
    first = weighed(board, way("a"))
    board.reserve(first)
    second = weighed(board, way("a"))

    assert board.has_turn(way("a")) is False
    assert second.terms.load_s == 0.0
    assert second.terms.wait_s == pytest.approx(first.terms.service_s)


def test_an_endpoint_that_people_have_added_is_one_server_for_all() -> None:
    fleet = Fleet()
    add(fleet, "a")
    add(fleet, "b")
    fleet.endpoints = (
        EndpointReport(id="claude", kind=EndpointKind.ANTHROPIC, url="https://x.invalid", local=False, parallel=1),
    )
    board = Board(fleet, Speeds(), NOW)
    board.reserve(weighed(board, way("a", "claude-x", "claude")))

    assert board.has_turn(way("b", "claude-x", "claude")) is False


def test_an_endpoint_that_nobody_has_is_a_bug_of_the_caller() -> None:
    fleet = Fleet()
    add(fleet, "a")

    with pytest.raises(LookupError):
        find(fleet, fleet.agents["a"], "nowhere")


def test_a_model_that_was_used_lately_is_not_given_up_lightly() -> None:
    fleet, speeds = Fleet(), Speeds()
    add(fleet, "a", model("m", 10.0), model("x", 16.0, WARM))
    before = speeds.of(("a", "ollama"), fleet.agents["a"].endpoints[0], model("x", 16.0), None)
    speeds.took(("a", "ollama"), "x", before, at=NOW - 100)

    assert weighed(Board(fleet, speeds, NOW), way("a")).terms.evict_s == pytest.approx(16.0)
    assert weighed(Board(fleet, speeds, NOW + 1_000), way("a")).terms.evict_s == pytest.approx(0.3 * 16.0)


def test_a_load_costs_those_who_wait_meanwhile_for_other_models() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", 10.0))
    add(fleet, "b", model("x", 10.0))

    def crowd_s(waiting: int, same: int = 1) -> float:
        wanted = {"m": same}
        board = Board(fleet, Speeds(), NOW, lambda name: wanted.get(name, 0), waiting)
        return weighed(board, way("a")).terms.crowd_s

    alone, same, others, overrun = crowd_s(1), crowd_s(5, same=5), crowd_s(5), crowd_s(999)
    assert (alone, same) == (0.0, 0.0)  # who waits for the same model is glad of the load
    assert others == pytest.approx(0.5 * (4 / 2) * 10.0)
    assert overrun == pytest.approx(0.5 * 8 * 10.0)


def test_a_model_that_others_have_in_memory_too_is_missed_less() -> None:
    costs = []
    for copies in (1, 2, 4):
        fleet = Fleet()
        add(fleet, "a", model("m", 10.0), model("x", 16.0, WARM))
        for number in range(1, copies):
            add(fleet, f"b{number}", model("x", 16.0, WARM))
        costs.append(weighed(Board(fleet, Speeds(), NOW, lambda _name: 1), way("a")).terms.evict_s)

    assert costs == pytest.approx([16.0, 8.0, 4.0])


def test_a_server_whose_context_is_too_small_for_the_work_has_to_load_anew() -> None:
    fleet = Fleet()
    add(fleet, "a", replace(model("m", 4.0, WARM), context=8_192, kv_bytes_per_token=100_000))
    board = Board(fleet, Speeds(), NOW)
    small = board.weigh(way("a"), replace(DEMAND, context=8_192))
    large = board.weigh(way("a"), replace(DEMAND, context=32_768))
    assert isinstance(small, Weighed)
    assert isinstance(large, Weighed)

    assert (small.terms.load_s, large.terms.load_s) == pytest.approx((0.0, 4.0))
    assert large.size_bytes == 4 * GB + 100_000 * (32_768 - 8_192)
    board.reserve(large)
    again = board.weigh(way("a"), replace(DEMAND, context=32_768))
    assert isinstance(again, Weighed)
    assert again.terms.load_s == 0.0


def test_a_cache_that_does_not_fit_beside_the_weights_keeps_the_model_out() -> None:
    fleet = Fleet()
    add(fleet, "a", ModelReport(name="m", size_bytes=20 * GB, kv_bytes_per_token=200_000), vram_gb=24)
    board = Board(fleet, Speeds(), NOW)

    assert isinstance(board.weigh(way("a"), replace(DEMAND, context=4_096)), Weighed)
    assert board.weigh(way("a"), replace(DEMAND, context=32_768)) == "has 22.8 GB for models, it needs 27.6 GB"


def test_a_model_larger_than_each_gpu_is_spread_over_them_at_a_price() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", 30.0), model("x", 45.4))
    fleet.agents["a"].report = host(gpu(24), gpu(24))
    board = Board(fleet, Speeds(), NOW)

    assert isinstance(board.weigh(way("a"), DEMAND), Weighed)
    assert board.weigh(way("a", "x"), DEMAND) == "has 45.6 GB for models, it needs 45.9 GB"


def test_money_and_failures_count_in_seconds() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", 4.0, WARM))
    fleet.endpoints = (EndpointReport(id="claude", kind=EndpointKind.ANTHROPIC, url="https://x.invalid", local=False),)
    speeds = Speeds()
    speeds.paid(("", "claude"), "claude-x", 0.03, (1_000, 400))

    def risk(demand: Demand, way: Way, terms: Terms) -> float:
        return terms.attempt_s if (demand.kind, way.model) == ("k", "m") else 0.0

    rates = Rates(s_per_usd=100.0, risk=risk)
    board = Board(fleet, speeds, NOW, rates=rates)
    ours = board.weigh(way("a"), replace(DEMAND, kind="k"))
    theirs = board.weigh(way("a", "claude-x", "claude"), replace(DEMAND, kind="k"))
    assert isinstance(ours, Weighed)
    assert isinstance(theirs, Weighed)

    assert (ours.terms.price_s, ours.terms.risk_s) == pytest.approx((0.0, 3.0))
    assert (theirs.terms.price_s, theirs.terms.risk_s) == pytest.approx((100 * 0.03 * 1_500 / 3_000, 0.0))


def test_a_host_that_has_the_repository_is_nearer() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", 4.0, WARM))
    add(fleet, "b", model("m", 4.0, WARM))
    fleet.keep_repo("b", "r")
    board = Board(fleet, Speeds(), NOW)
    costs = [board.weigh(way(name), replace(DEMAND, repo="r", verify_s=7.0)) for name in "ab"]

    assert [each.terms.workspace_s for each in costs if isinstance(each, Weighed)] == [CLONE_S, FETCH_S]
    assert [each.terms.verify_s for each in costs if isinstance(each, Weighed)] == [7.0, 7.0]


def test_a_prompt_that_may_be_too_long_is_a_risk() -> None:
    fleet = Fleet()
    llama = replace(ollama(replace(model("m", 4.0, WARM), context=16_384)), kind=EndpointKind.OPENAI)
    add(fleet, "a")
    fleet.agents["a"].endpoints = (llama,)
    found = Board(fleet, Speeds(), NOW).weigh(way("a"), replace(DEMAND, bucket=16_384))
    assert isinstance(found, Weighed)

    assert found.terms.risk_s == pytest.approx(3.0 * 1_024 / 8_192)


def test_an_endpoint_on_trial_gets_one_request_at_a_time() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", residency=WARM), parallel=4)
    fleet.health["a", "ollama"] = Health(state=EndpointState.HALF_OPEN)
    board = Board(fleet, Speeds(), NOW)
    first = board.has_turn(way("a"))
    board.reserve(weighed(board, way("a")))

    assert (first, board.has_turn(way("a"))) == (True, False)


def test_a_server_is_given_as_much_at_a_time_as_it_was_seen_to_take() -> None:
    fleet, speeds = Fleet(), Speeds()
    add(fleet, "a", model("m", residency=WARM), slots=9, parallel=0)
    report = fleet.agents["a"].endpoints[0]
    for _ in range(PATIENCE):
        speeds.answered(("a", "ollama"), report, 1, queue_s=0.0, model_s=4.0)
    board = Board(fleet, speeds, NOW)
    board.reserve(weighed(board, way("a")))
    second = board.has_turn(way("a"))
    board.reserve(weighed(board, way("a")))

    assert (second, board.has_turn(way("a"))) == (True, False)
    speeds.refused(("a", "ollama"), report)
    less = Board(fleet, speeds, NOW)
    less.reserve(weighed(less, way("a")))
    assert not less.has_turn(way("a"))


def test_a_model_is_loaded_nowhere_while_the_driver_of_the_gpu_hangs_and_one_that_is_there_is_used() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", 8.0, WARM), model("n", 4.0))
    hung = replace(gpu(24), vram_used_bytes=None, vendor="nvidia")
    notes = {"nvidia": "the driver has not answered for 30 s"}
    fleet.agents["a"].report = replace(host(hung), notes=notes)
    board = Board(fleet, Speeds(), NOW)
    found = board.weigh(way("a", "n"), DEMAND)
    swapped = [weighed(board, way("a"))]

    assert isinstance(found, Weighed)
    assert found.evicted == ("m",)  # only into memory that is known to be ours
    assert swapped[0].terms.load_s == 0.0
    fleet.agents["a"].endpoints = (ollama(model("n", 4.0)),)
    assert Board(fleet, Speeds(), NOW).weigh(way("a", "n"), DEMAND) == (
        "has 0.0 GB for models, it needs 4.0 GB (its GPU: the driver has not answered for 30 s)"
    )


def test_a_quota_that_is_used_is_a_wait_and_a_reason() -> None:
    fleet = Fleet()
    add(fleet, "a")
    listed = (ModelReport(name="m", residency=WARM),)
    fleet.endpoints = (
        EndpointReport(id="far", kind=EndpointKind.OPENAI, url="http://far", local=False, models=listed, rpm=1),
    )
    far = Way(agent="a", strategy=Strategy.CLOUD_LLM, endpoint="far", model="m")
    assert Board(fleet, Speeds(), NOW).has_turn(far)
    fleet.quotas.used(("", "far"), 1, 10, 1.0, NOW)

    found = weighed(Board(fleet, Speeds(), NOW + 10), far)

    assert (found.terms.wait_s, found.quota) == (50.0, "its quota of 1 requests a minute is used")
    assert not Board(fleet, Speeds(), NOW + 10).has_turn(far)
    assert Board(fleet, Speeds(), NOW + 60).has_turn(far)


def test_what_a_server_has_read_before_is_not_read_again() -> None:
    fleet, speeds = Fleet(), Speeds()
    add(fleet, "a", model("m", residency=WARM))
    add(fleet, "b", model("m", residency=WARM))
    fleet.prefixes.expect("before", (7,))
    fleet.prefixes.read("before", ("a", "ollama"), "m", 1, is_loaded=False)

    def terms(agent: str, blocks: tuple[int, ...]) -> Terms:
        found = Board(fleet, speeds, NOW).weigh(way(agent), DEMAND, blocks)
        assert isinstance(found, Weighed)
        return found.terms

    known, other, stranger = terms("a", (7, 8)), terms("b", (7, 8)), terms("a", (8, 7))
    saved_s = REUSE * BLOCK_TOKENS / DEMAND.input_tokens
    assert known.cached_s == pytest.approx(saved_s)
    assert known.prefill_s == pytest.approx(other.prefill_s - saved_s)
    assert known.total_s == pytest.approx(other.total_s - saved_s)
    assert (other.cached_s, stranger.cached_s) == (0, 0)
    assert known.shown["cached_s"] == pytest.approx(saved_s, abs=0.001)
    assert f"not reading {saved_s:.1f} again" in known.in_words

    speeds.reused(("a", "ollama"), fleet.agents["a"].endpoints[0], BLOCK_TOKENS, 0)
    assert 0 < terms("a", (7, 8)).cached_s < saved_s, "it was seen to read all of it"


def test_what_was_read_goes_with_the_model() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", 4.0))
    fleet.prefixes.expect("before", (7,))
    fleet.prefixes.read("before", ("a", "ollama"), "m", 1, is_loaded=False)
    found = Board(fleet, Speeds(), NOW).weigh(way("a"), DEMAND, (7,))

    assert isinstance(found, Weighed)
    assert (found.terms.cached_s, found.known_tokens) == (0, 0)

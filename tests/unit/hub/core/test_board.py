"""What work for a model costs on each server: the sum, its terms, and what can never be."""

import pytest

from hub.core.agent import Held
from hub.core.board import Board, Weighed, find
from hub.core.fleet import Fleet
from hub.core.routing import Way
from hub.core.speeds import Demand, Speeds
from protocol.model import EndpointKind, EndpointReport, Residency, Strategy
from tests.support.machines import add, gpu, host, model

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


def test_a_load_costs_those_who_wait_meanwhile() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m", 4.0))
    crowded, overrun = (weighed(Board(fleet, Speeds(), NOW, crowd=crowd), way("a")).terms for crowd in (2.0, 99.0))

    assert crowded.crowd_s == pytest.approx(4.0)
    assert overrun.crowd_s == pytest.approx(16.0)

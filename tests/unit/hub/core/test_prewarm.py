"""Models that are loaded ahead: where, when it is worth it, and what is never pushed out for one."""

import pytest

from hub.core.agent import Held
from hub.core.board import Board
from hub.core.fleet import Fleet
from hub.core.loads import USUAL_S
from hub.core.matching import match
from hub.core.prewarm import Near, Wish, best_way, wish_for
from hub.core.routing import Requirements
from hub.core.speeds import Speeds
from hub.core.window import Window
from protocol.endpoints import ModelReport, Residency
from protocol.messages import PREWARM
from protocol.model import Strategy
from tests.support.machines import add, model

NOW = 100.0
WARM = Residency.WARM
SERVER = ("a", "ollama")
NEEDS = Requirements(executor="chat", strategies=(Strategy.LOCAL_LLM,), model="m", context=2_048)


def fleet_of(*models: ModelReport, vram_gb: float = 24, name: str = "a", fleet: Fleet | None = None) -> Fleet:
    fleet = fleet or Fleet()
    add(fleet, name, *models, vram_gb=vram_gb)
    fleet.agents[name].capabilities |= {PREWARM}
    return fleet


def uses(fleet: Fleet, name: str) -> None:
    held = Held("t0", 1, "a", 1, NOW)
    held.server, held.model, held.ends_at, held.service_s = SERVER, name, NOW + 5, 5.0
    fleet.take(held)


def wished(fleet: Fleet, *, may_evict: bool = False, wanted: int = 0, taken: bool = False) -> Wish | None:
    board = Board(fleet, Speeds(), NOW)
    chosen = best_way(match(fleet, NEEDS), NEEDS, NEEDS.kind, board, Speeds())
    if chosen is None:
        return None
    near = Near("t1", NEEDS, "its turn comes next", may_evict)
    busy = {chosen.way.agent: "ollama"}.items() if taken else ()
    return wish_for(near, chosen, Window(), fleet, now=NOW, taken=busy, wanted=lambda _model: wanted)


def test_a_cold_model_is_loaded_where_its_work_would_go() -> None:
    wish = wished(fleet_of(model("m")))

    assert wish is not None
    assert (wish.task, wish.agent, wish.server, wish.model) == ("t1", "a", SERVER, "m")
    assert wish.keep_alive_s == USUAL_S
    assert wish.until > NOW + USUAL_S


def test_a_model_is_loaded_while_another_one_works_if_there_is_room_for_both() -> None:
    fleet = fleet_of(model("m", 10.0), model("n", 10.0, WARM))
    uses(fleet, "n")

    wish = wished(fleet)

    assert wish is not None
    assert wish.model == "m"


def test_a_busy_model_is_never_pushed_out() -> None:
    fleet = fleet_of(model("m", 20.0), model("n", 20.0, WARM))
    uses(fleet, "n")

    assert wished(fleet, may_evict=True) is None


@pytest.mark.parametrize(
    "may_evict, wanted, is_loaded", [(False, 0, False), (True, 1, False), (True, 0, True)], ids=str
)
def test_an_idle_model_leaves_only_at_the_last_moment_and_if_nobody_wants_it(
    may_evict: bool, wanted: int, is_loaded: bool
) -> None:
    fleet = fleet_of(model("m", 20.0), model("n", 20.0, WARM))

    assert (wished(fleet, may_evict=may_evict, wanted=wanted) is not None) is is_loaded


def test_what_is_in_memory_is_not_loaded() -> None:
    assert wished(fleet_of(model("m", residency=WARM))) is None


def test_nothing_is_loaded_beside_a_better_place() -> None:
    fleet = fleet_of(model("m"))
    fleet_of(model("m", residency=WARM), name="b", fleet=fleet)

    assert wished(fleet) is None


def test_a_server_loads_one_at_a_time() -> None:
    assert wished(fleet_of(model("m")), taken=True) is None


def test_a_sidecar_that_does_not_know_the_word_never_hears_it() -> None:
    fleet = fleet_of(model("m"))
    fleet.agents["a"].capabilities -= {PREWARM}

    assert wished(fleet) is None


def test_without_anybody_who_could_do_it_nothing_is_loaded() -> None:
    assert wished(fleet_of(model("n"))) is None

"""How long a model stays, with how much context, and what goes before: from the queue, for one assignment."""

import pytest
from msgspec.structs import replace

from hub.core.fleet import Fleet
from hub.core.loads import AGENT_CONTEXT, LONGEST_S, SHORT_S, USUAL_S, load_plan
from hub.core.routing import Requirements, Way
from hub.core.terms import Terms, Weighed
from hub.core.window import Window
from protocol.endpoints import ModelReport, Residency
from protocol.loads import LoadPlan
from protocol.model import Strategy
from tests.support.machines import add, model

LOCAL = (Strategy.LOCAL_LLM, Strategy.CLOUD_LLM)


def requirements(name: str = "", executor: str = "chat") -> Requirements:
    return Requirements(executor=executor, strategies=LOCAL, model=name, context=2_048)


def waiting(window: Window, wanted: Requirements, count: int) -> None:
    for number in range(count):
        window.add(wanted.text, (2, f"{number:026}"))


def planned(
    window: Window,
    *models: ModelReport,
    executor: str = "chat",
    service_s: float = 10.0,
    context: int = 4_096,
    evicted: tuple[str, ...] = (),
    vram_gb: float = 24,
) -> LoadPlan:
    fleet = Fleet()
    add(fleet, "a", *models, vram_gb=vram_gb)
    terms = Terms(0.0, 0.0, 0.0, 0.0, service_s)
    way = Way(agent="a", strategy=Strategy.LOCAL_LLM, endpoint="ollama", model=models[0].name)
    plan = load_plan(Weighed(way, terms, evicted, 0.0, context), requirements(executor=executor), window, fleet)
    assert plan is not None
    return plan


def test_a_model_that_nobody_waits_for_stays_for_the_usual_time() -> None:
    plan = planned(Window(), model("m"))

    assert (plan.keep_alive_s, plan.context, plan.unload) == (USUAL_S, 4_096, ())
    assert plan.reason == "nothing else waits for its memory"


@pytest.mark.parametrize(
    "count, service_s, stays_s", [(1, 10.0, USUAL_S), (100, 10.0, 2_000.0), (1_000, 100.0, LONGEST_S)]
)
def test_a_model_stays_as_long_as_the_work_that_waits_for_it_will_take(
    count: int, service_s: float, stays_s: float
) -> None:
    window = Window()
    waiting(window, requirements("m"), count)

    plan = planned(window, model("m"), service_s=service_s)

    assert plan.keep_alive_s == stays_s
    assert plan.reason.startswith(f"{count} more task")


def test_work_that_names_no_model_counts_for_the_one_it_would_get() -> None:
    window = Window()
    waiting(window, requirements(), 60)

    assert planned(window, model("m"), model("n"), service_s=10.0).keep_alive_s == 1_200.0


def test_a_model_goes_soon_when_another_one_waits_for_its_memory() -> None:
    window = Window()
    waiting(window, requirements("big"), 1)

    plan = planned(window, model("m", 10.0), model("big", 20.0))

    assert (plan.keep_alive_s, plan.reason) == (SHORT_S, "big waits for its memory")


@pytest.mark.parametrize(
    "other",
    [model("n", 10.0), model("n", 20.0, Residency.WARM)],
    ids=["there is room for both", "it is in memory already"],
)
def test_another_model_that_is_in_nobodys_way_shortens_nothing(other: ModelReport) -> None:
    window = Window()
    waiting(window, requirements("n"), 1)

    assert planned(window, model("m", 10.0), other).keep_alive_s == USUAL_S


def test_work_for_other_machines_or_for_no_model_counts_for_nothing() -> None:
    window = Window()
    waiting(window, requirements("elsewhere"), 5)
    waiting(window, Requirements(executor="shell", strategies=(Strategy.TRIVIAL,)), 5)
    waiting(window, Requirements(executor="chat", strategies=(Strategy.CLOUD_LLM,)), 5)

    assert planned(window, model("m", 20.0)).keep_alive_s == USUAL_S


def test_work_with_tools_keeps_its_model_while_the_tools_run_and_has_room_to_grow() -> None:
    window = Window()
    waiting(window, requirements("big"), 1)

    plan = planned(window, model("m", 10.0), model("big", 20.0), executor="agent")

    assert plan.keep_alive_s == USUAL_S
    assert plan.context == AGENT_CONTEXT


def test_room_to_grow_is_for_machines_that_have_it() -> None:
    heavy = replace(model("m", 10.0), vram_bytes=None, kv_bytes_per_token=1_000_000)

    assert planned(Window(), heavy, executor="agent", vram_gb=16).context == 4_096
    assert planned(Window(), heavy, executor="agent", vram_gb=48).context == AGENT_CONTEXT


def test_what_has_no_room_beside_it_is_told_to_go() -> None:
    assert planned(Window(), model("m", 20.0), model("old", 20.0), evicted=("old",)).unload == ("old",)


def test_nobody_plans_the_memory_of_a_cloud() -> None:
    fleet = Fleet()
    add(fleet, "a", model("m"))
    agent = fleet.agents["a"]
    agent.endpoints = tuple(replace(endpoint, local=False) for endpoint in agent.endpoints)
    way = Way(agent="a", strategy=Strategy.CLOUD_LLM, endpoint="ollama", model="m")

    chosen = Weighed(way, Terms(0.0, 0.0, 0.0, 0.0, 1.0))
    assert load_plan(chosen, requirements("m"), Window(), fleet) is None

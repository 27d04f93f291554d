"""Promises of :mod:`hub.core.charging`."""

from typing import Final

from hub.core.budgets import DAY_MS, HUB, Amount, Limits, Purse
from hub.core.charging import Allowances, Charging, granted
from hub.core.routing import Allowance, Requirements, Way, requirements_of, route
from protocol.budgets import BudgetScope
from protocol.model import Budget, Strategy, TaskSpec, Usage

NOW_MS: Final = 7 * DAY_MS + 5
CLOUD, LOCAL, TRIVIAL = (
    Way(agent="a", strategy=strategy) for strategy in (Strategy.CLOUD_LLM, Strategy.LOCAL_LLM, Strategy.TRIVIAL)
)


def of(**budget: object) -> Requirements:
    spec = TaskSpec(prompt="x", project="web", budget=Budget(**budget))  # type: ignore[arg-type]  # fields by name
    return route(spec, by="ann")[1]


def charging(**limits: int) -> Charging:
    found = Charging(Allowances(tokens=5_000, usd=0.25))
    found.load({HUB: Limits(**limits)}, 7, {}, set())
    return found


def test_an_attempt_reserves_what_its_task_says() -> None:
    charge, allowance = charging(micro=1, tokens=1).charge(of(tokens=300, usd=0.5, seconds=60), CLOUD, NOW_MS)

    assert charge.need == Amount(tokens=300, micro=500_000, ms=60_000)
    assert charge.scopes == (HUB, (BudgetScope.SUBMITTER, "ann"), (BudgetScope.PROJECT, "web"))
    assert (charge.day, allowance) == (7, None)


def test_a_task_without_limits_gets_an_allowance_of_what_is_bounded_only() -> None:
    unlimited = of(tokens=None)

    assert charging(micro=1).charge(unlimited, CLOUD, NOW_MS)[1] == Allowance(usd=0.25)
    charge, allowance = charging(micro=1, tokens=1).charge(unlimited, CLOUD, NOW_MS)
    assert (charge.need, allowance) == (Amount(5_000, 250_000, 900_000), Allowance(tokens=5_000, usd=0.25))


def test_work_without_a_model_reserves_time_alone_and_a_local_model_no_money() -> None:
    held = charging(micro=1, tokens=1)

    assert held.charge(of(usd=0.5), TRIVIAL, NOW_MS)[0].need == Amount(ms=900_000)
    assert held.charge(of(usd=0.5), LOCAL, NOW_MS)[0].need == Amount(tokens=200_000, ms=900_000)


def test_programs_that_ask_models_by_themselves_reserve_tokens_and_money() -> None:
    held, budget = charging(micro=1, tokens=1), Budget(tokens=300, usd=0.5)
    agent, command = (
        route(TaskSpec(budget=budget, **more), by="ann")[1]  # type: ignore[arg-type]  # fields by name
        for more in ({"prompt": "x", "executor": "acp"}, {"command": "x", "needs": ("llm",)})
    )

    assert held.charge(agent, TRIVIAL, NOW_MS)[0].need == Amount(tokens=300, micro=500_000, ms=900_000)
    assert held.charge(command, TRIVIAL, NOW_MS)[0].need == Amount(tokens=300, micro=500_000, ms=900_000)
    plain = route(TaskSpec(command="x", budget=budget))[1]
    assert held.charge(plain, TRIVIAL, NOW_MS)[0].need == Amount(ms=900_000)


def test_what_is_on_its_way_to_the_store_counts_already_and_stays_counted_over_a_look() -> None:
    held, wanted = charging(tokens=200_000), of()
    charge, _ = held.charge(wanted, CLOUD, NOW_MS)
    held.plan("t", charge)
    assert not held.may_spend(wanted, CLOUD, NOW_MS)

    held.load({HUB: Limits(tokens=200_000)}, 7, {}, set())
    assert held.lack(wanted, CLOUD, NOW_MS) is not None
    held.drop("t")

    assert held.may_spend(wanted, CLOUD, NOW_MS)


def test_an_attempt_is_settled_in_the_picture_as_soon_as_it_reports() -> None:
    held, wanted = charging(tokens=200_000), of()
    held.plan("t", held.charge(wanted, CLOUD, NOW_MS)[0])
    held.grant("t", 3)

    held.use("t", 3, Usage(input_tokens=10))

    assert held.ledger.purse(7, HUB) == Purse(spent=Amount(tokens=10))


def test_a_task_that_is_tried_again_reserves_only_what_is_left_of_its_own_money() -> None:
    held, wanted = charging(micro=500_000), of(usd=0.5)
    held.plan("t", held.charge(wanted, CLOUD, NOW_MS, "t")[0])
    held.grant("t", 1)
    held.use("t", 1, Usage(cost_usd=0.2))

    assert held.charge(wanted, CLOUD, NOW_MS, "t")[0].need.micro == 300_000
    assert held.may_spend(wanted, CLOUD, NOW_MS, "t")
    assert not held.may_spend(wanted, CLOUD, NOW_MS, "another")


def test_after_a_refusal_nothing_is_granted_before_somebody_has_looked() -> None:
    told: list[bool] = []
    held = charging(tokens=10**9)
    held.on_stale = lambda: told.append(True)
    held.refuse()

    assert not held.may_spend(of(), CLOUD, NOW_MS)
    assert (told, held.was_short) == ([True], True)
    held.load({HUB: Limits(tokens=10**9)}, 7, {}, set())
    assert held.may_spend(of(), CLOUD, NOW_MS)


def test_tasks_with_other_limits_are_of_another_class_but_match_and_teach_alike() -> None:
    one, other = of(usd=0.5), of()

    assert one.text != other.text
    assert (one.place, one.kind) == (other.place, other.kind)
    assert requirements_of(one.text) == one


def test_an_attempt_is_sent_what_its_task_may_still_use() -> None:
    spec = TaskSpec(prompt="x", budget=Budget(usd=1.0))

    assert granted(spec, None, 0.0, 0.0) is None
    assert granted(spec, None, 0.25, 0.0) == Budget(usd=0.75)
    assert granted(spec, None, 0.25, 0.25) is None  # its sidecar takes off by itself what it goes on from
    assert granted(TaskSpec(prompt="x"), Allowance(usd=0.5), 0.3, 0.2) == Budget(usd=0.7)
    assert granted(TaskSpec(prompt="x", budget=Budget(tokens=None)), Allowance(tokens=9), 0.0, 0.0) == Budget(tokens=9)

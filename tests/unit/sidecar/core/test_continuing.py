"""The promises of a budget over attempts that go on with the same work: everything counts once, whoever was heard."""

import pytest

from hub.core.charging import granted
from protocol.model import Budget, TaskSpec, Usage
from protocol.prices import Bill
from protocol.progress import Saved
from sidecar.core.purse import Purse
from sidecar.progress import Before, saved

USD = 0.5
SPEC = TaskSpec(prompt="x", budget=Budget(usd=USD))
PART = Usage(model="m", input_tokens=10, cost_usd=0.1, bill=Bill(requests=1))


@pytest.mark.parametrize("carries", [False, True], ids=["again", "climbed"])
@pytest.mark.parametrize(
    "heard",
    [(True, True, True), (False, True, True), (True, False, True), (False, False, True), (True, True, False, True)],
)
def test_attempts_that_go_on_with_each_other_spend_the_budget_of_the_task_once(
    heard: tuple[bool, ...], *, carries: bool
) -> None:
    """The hub sends what is left by the reports that it has, the sidecar takes off what it goes on from."""
    earlier_usd = 0.05 if carries else 0.0  # of an attempt that failed its checks
    reported, left, was_heard = Usage(cost_usd=earlier_usd), None, False
    for number, is_heard in enumerate(heard, 1):
        carried_usd = reported.cost_usd or 0.0 if carries else None
        budget = granted(SPEC, None, reported.cost_usd or 0.0, carried_usd or 0.0) or SPEC.budget
        purse = Purse(budget, 0.0, carried_usd)
        underway = Usage()
        if left is not None:
            before = Before(saved=left, reported=was_heard)
            told, underway = before.told, before.underway
            purse.inherit(before.iterations, seconds=left.seconds, carried_usd=left.carried_usd, told=told)
        purse.underway = underway.plus(PART)

        assert purse.remaining(1.0).usd == pytest.approx(USD - earlier_usd - 0.1 * number)
        assert purse.spent(1.0) is None
        left, was_heard = saved(purse, 1.0, "m", None), is_heard
        if is_heard:
            reported = reported.plus(purse.to_report(1.0))

    assert reported.cost_usd == pytest.approx(earlier_usd + 0.1 * len(heard))
    assert (reported.input_tokens, reported.bill) == (10 * len(heard), Bill(requests=len(heard)))


def test_work_sent_back_and_then_tried_without_its_carry_spends_no_money_twice() -> None:
    left = Saved(iteration=1, turn=1, used=PART, underway=PART, carried_usd=0.2)
    purse = Purse(Budget(usd=0.2), 0.0)  # 0.5, without 0.2 and 0.1 that are reported
    purse.inherit((), seconds=1.0, carried_usd=left.carried_usd, told=Before(saved=left, reported=True).told)
    purse.underway = PART

    assert purse.remaining(1.0).usd == pytest.approx(0.2)

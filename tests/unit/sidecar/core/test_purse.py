"""The promises of a purse: everything that was used counts once, also what another machine has used before."""

import pytest

from protocol.model import Budget, Iteration, Usage
from protocol.prices import Bill, Price
from sidecar.core.purse import Purse, minus

HALF = Usage(model="m", input_tokens=40, output_tokens=10, cost_usd=0.2)


def _done(number: int, usage: Usage = HALF) -> Iteration:
    return Iteration(number=number, execution_ok=True, passed=False, usage=usage)


def test_what_is_left_is_the_budget_without_what_iterations_and_turns_have_used() -> None:
    purse = Purse(Budget(tokens=200, usd=1.0, seconds=60, fix_attempts=2), began_at=100.0)
    purse.iterations.append(_done(1))
    purse.underway = HALF

    left = purse.remaining(now=110.0)

    assert (left.tokens, left.usd, left.seconds, left.fix_attempts) == (100, pytest.approx(0.6), 50.0, 2)
    assert purse.spent(now=110.0) is None


@pytest.mark.parametrize(
    "budget, now, what",
    [
        (Budget(tokens=50), 101.0, "tokens"),
        (Budget(tokens=None, usd=0.2), 101.0, "USD"),
        (Budget(tokens=None, seconds=5.0), 105.0, "seconds"),
    ],
)
def test_a_budget_that_is_used_up_is_named(budget: Budget, now: float, what: str) -> None:
    purse = Purse(budget, began_at=100.0)
    purse.iterations.append(_done(1))

    spent = purse.spent(now)

    assert spent is not None
    assert what in str(spent)
    assert Purse(Budget(tokens=None), began_at=100.0).spent(now) is None


def test_free_work_goes_on_without_any_money() -> None:
    assert Purse(Budget(tokens=None, usd=0.0), began_at=0.0).spent(now=1.0) is None


def test_what_an_earlier_attempt_has_used_counts_and_is_told_in_one_report_only() -> None:
    budget = Budget(tokens=200, usd=1.0, seconds=60)
    unheard, heard = (Purse(budget, began_at=100.0, carried_usd=0.1) for _ in range(2))
    for purse, told in ((unheard, Usage()), (heard, HALF)):
        purse.inherit([_done(1)], seconds=20.0, carried_usd=0.1, told=told)
        purse.underway = HALF

    assert unheard.remaining(now=110.0) == heard.remaining(now=110.0)
    assert (heard.remaining(now=110.0).tokens, heard.remaining(now=110.0).seconds) == (100, 30.0)
    assert heard.remaining(now=110.0).usd == pytest.approx(0.5)
    assert (unheard.to_report(now=110.0).input_tokens, heard.to_report(now=110.0).input_tokens) == (80, 40)
    assert heard.to_report(now=110.0).seconds == 10.0


def test_an_unknown_price_stays_unknown() -> None:
    assert minus(Usage(cost_usd=None), HALF).cost_usd is None
    assert minus(HALF, HALF).cost_usd == 0.0


def test_a_bill_that_was_told_is_not_told_again() -> None:
    price = Price(gpu_hour_usd=1.0)
    first = Usage(model="m", bill=Bill(price=price, gpu_s=0.1, energy_wh=0.2, requests=1))
    then = Usage(model="m", bill=Bill(price=price, gpu_s=0.3, energy_wh=None, requests=2))

    assert minus(first.plus(then), first).bill == Bill(price=price, gpu_s=0.3, energy_wh=0.0, requests=2)
    assert minus(first, Usage()).bill == first.bill
    assert minus(HALF, first).bill is None

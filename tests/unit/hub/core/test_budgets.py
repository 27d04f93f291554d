"""Promises of :mod:`hub.core.budgets`."""

import random
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.core.budgets import (
    DAY_MS,
    HUB,
    KINDS,
    Amount,
    Charge,
    Lack,
    Ledger,
    Limits,
    Scope,
    amount_words,
    budget_id,
    lack_words,
    micro,
    scope_of,
    used_of,
)
from protocol.budgets import BudgetScope
from protocol.model import Usage

ANN: Final[Scope] = (BudgetScope.SUBMITTER, "ann")
WEB: Final[Scope] = (BudgetScope.PROJECT, "web")


def charge(need: Amount, *, by: str = "ann", project: str = "", day: int = 1) -> Charge:
    return Charge(day, by, project, need)


def restarted(ledger: Ledger) -> Ledger:
    """What a hub knows that reads the rows of one that died."""
    return Ledger(ledger.limits, ledger.purses, ledger.open, ledger.presumed)


def is_within(ledger: Ledger) -> bool:
    """Whether no purse holds more than its scope may use."""
    taken = [(ledger.limits.get(scope, Limits()), purse.taken) for (_, scope), purse in ledger.purses.items()]
    bounds = [(getattr(limits, kind), getattr(used, kind)) for limits, used in taken for kind in KINDS]
    return all(limit is None or used <= limit for limit, used in bounds)


@settings(deadline=None, max_examples=6)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60_000), st.integers(0, 300_000))
def test_a_thousand_tasks_in_any_order_never_exceed_a_budget(seed: int, tokens: int, cents: int) -> None:
    chance = random.Random(seed)
    limits = {
        HUB: Limits(tokens=tokens * 20, micro=cents * 10_000),
        ANN: Limits(tokens=tokens, ms=3_600_000),
        WEB: Limits(micro=cents * 1_000),
    }
    ledger = Ledger(limits)
    waiting, held, lost = list(range(1_000)), list[tuple[str, int]](), list[tuple[str, int]]()
    needs = [Amount(chance.randrange(2_000), chance.randrange(2_000_000), chance.randrange(90_000)) for _ in waiting]
    for step in range(5_000):
        deed = chance.random()
        if deed < 0.5 and waiting:
            task = waiting.pop(chance.randrange(len(waiting)))
            who, where, day = chance.choice(["ann", "bob"]), chance.choice(["", "web"]), 1 + step // 2_500
            if ledger.reserve((str(task), 1), charge(needs[task], by=who, project=where, day=day)) is None:
                held.append((str(task), 1))
            else:
                waiting.append(task)
        elif deed < 0.9 and held:
            attempt = held.pop(chance.randrange(len(held)))
            need = ledger.open[attempt].need
            used = Amount(*(chance.randrange(amount + 1) for amount in (need.tokens, need.micro, need.ms)))
            if chance.random() < 0.3:
                ledger.presume(attempt)
                lost.append(attempt)
            else:
                ledger.settle(attempt, used if chance.random() < 0.7 else Amount())
        elif deed < 0.95 and lost:
            ledger.settle(lost.pop(), Amount())  # it was heard of after all
        elif deed > 0.99:
            ledger = restarted(ledger)
        assert is_within(ledger)

    for attempt in (*held, *lost):
        ledger.release(attempt)
    assert all(purse.reserved == Amount() for purse in ledger.purses.values())


def test_a_reservation_that_does_not_fit_changes_nothing_and_names_the_purse() -> None:
    ledger = Ledger({HUB: Limits(micro=5_000_000), WEB: Limits(micro=1_000_000)})
    assert ledger.reserve(("a", 1), charge(Amount(micro=800_000), project="web")) is None
    before = dict(ledger.purses)

    found = ledger.reserve(("b", 1), charge(Amount(micro=300_000), project="web"))

    assert found == Lack(*WEB, "micro", 300_000, 200_000, 1_000_000)
    assert ledger.purses == before
    assert ledger.reserve(("b", 1), charge(Amount(micro=300_000))) is None  # outside of the project there is enough


def test_what_was_not_used_is_there_for_others_and_what_was_used_is_not() -> None:
    ledger = Ledger({HUB: Limits(tokens=100)})
    ledger.reserve(("a", 1), charge(Amount(tokens=100)))
    assert ledger.lack(charge(Amount(tokens=1))) is not None

    ledger.settle(("a", 1), Amount(tokens=30))

    assert ledger.lack(charge(Amount(tokens=70))) is None
    assert ledger.lack(charge(Amount(tokens=71))) is not None


def test_an_attempt_draws_on_the_day_on_which_it_was_granted() -> None:
    ledger = Ledger({HUB: Limits(tokens=100)})
    ledger.reserve(("a", 1), charge(Amount(tokens=100), day=1))

    assert ledger.lack(charge(Amount(tokens=100), day=2)) is None
    ledger.settle(("a", 1), Amount(tokens=60))
    assert ledger.purse(1, HUB).spent == Amount(tokens=60)
    assert ledger.purse(2, HUB).spent == Amount()


def test_an_attempt_that_used_more_than_it_reserved_counts_with_all_of_it() -> None:
    ledger = Ledger({HUB: Limits(tokens=100)})
    ledger.reserve(("a", 1), charge(Amount(tokens=90)))
    ledger.settle(("a", 1), Amount(tokens=105))

    assert ledger.lack(charge(Amount(tokens=1))) == Lack(*HUB, "tokens", 1, 0, 100)
    assert ledger.lack(charge(Amount())) is None  # work that costs nothing goes on


def test_an_attempt_counts_once_however_often_it_comes() -> None:
    ledger = Ledger({HUB: Limits(tokens=100)})
    for _ in range(2):
        assert ledger.reserve(("a", 1), charge(Amount(tokens=60))) is None
    for _ in range(2):
        ledger.settle(("a", 1), Amount(tokens=10))

    assert ledger.purse(1, HUB).taken == Amount(tokens=10)


def test_an_unknown_price_counts_as_all_that_was_reserved() -> None:
    assert used_of(Usage(input_tokens=2, output_tokens=3, cost_usd=None, seconds=0.0015), Amount(micro=7)) == Amount(
        5, 7, 2
    )
    assert used_of(Usage(cost_usd=0.25), Amount(micro=7)) == Amount(micro=250_000)


@pytest.mark.parametrize("usd, parts", [(0.1, 100_000), (0.1 + 0.2, 300_000), (1e-7, 1), (0.0, 0), (2.5, 2_500_000)])
def test_money_is_counted_in_millionths_and_never_looks_like_less(usd: float, parts: int) -> None:
    assert micro(usd) == parts


@pytest.mark.parametrize("scope", [HUB, ANN, WEB])
def test_a_budget_is_found_by_its_name(scope: Scope) -> None:
    assert scope_of(budget_id(scope)) == scope


@pytest.mark.parametrize("text", ["", "hub:x", "submitter", "submitter:", "team:x", "Hub"])
def test_what_names_no_budget_is_none(text: str) -> None:
    assert scope_of(text) is None


def test_words_say_which_budget_how_much_is_left_and_when_it_begins_anew() -> None:
    now_ms = 20 * DAY_MS - 19_200_000
    said, ways_out = lack_words(Lack(*ANN, "micro", 500_000, 200_000, 2_000_000), now_ms)

    assert said == (
        "the budget of submitter:ann has $0.20 of $2.00 left today, and it may use $0.50; "
        "the next day begins at 00:00 UTC, in 5h20m"
    )
    assert ways_out[1] == "raise the budget: agentcom budgets set submitter:ann --usd N"


def test_words_say_when_it_never_fits() -> None:
    said, ways_out = lack_words(Lack(*HUB, "tokens", 500, 10, 400), 0)

    assert said == "it may use 500 tokens, and the whole budget of hub for a day is 400 tokens: it never fits"
    assert all("wait" not in way for way in ways_out)


@pytest.mark.parametrize(
    "kind, amount, words", [("micro", 1_500_000, "$1.50"), ("micro", 1_234, "$0.001234"), ("ms", 900_000, "900 s")]
)
def test_amounts_are_said_in_their_unit(kind: str, amount: int, words: str) -> None:
    assert amount_words(kind, amount) == words

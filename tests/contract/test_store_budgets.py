"""The promises of a store about budgets: nothing is granted beyond them, whoever asks, whatever dies."""

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from hub.core.budgets import HUB, Amount, Charge, Limits, Purse, Scope
from hub.store.budget_changes import BudgetRow, PutBudget, RemoveBudget, Settle, Spent, Unfunded
from hub.store.changes import Cancel, Claimed
from protocol import codec
from protocol.budgets import BudgetScope
from protocol.errors import NotFound, StaleTask
from protocol.events import Event, EventKind
from protocol.model import AttemptState, FailureClass, TaskResult, TaskState, Usage
from tests.support.stores import Rows, new_task, opened, task_id

ANN: Scope = (BudgetScope.SUBMITTER, "ann")
NEED = Amount(tokens=100, micro=500_000, ms=60_000)
EVENT = Event(kind=EventKind.BUDGET_SET, at_ms=1, facts={"budget": "hub"})


async def bound(rows: Rows, limits: Limits, scope: Scope = HUB) -> None:
    await rows.store.commit(PutBudget(BudgetRow(scope=scope, limits=limits, changed_ms=5, changed_by="me"), EVENT))


async def claim(rows: Rows, number: int, need: Amount = NEED, *, day: int = 0, own_micro: int | None = None) -> Any:  # noqa: ANN401 - its outcome
    change = replace(rows.claim_change(number), charge=Charge(day, "ann", "", need), own_micro=own_micro)
    return await rows.store.commit(change)


def result(cost_usd: float | None, tokens: int = 30) -> bytes:
    usage = Usage(model="m", input_tokens=tokens, cost_usd=cost_usd, seconds=2.0)
    return codec.encode_result(TaskResult(execution_ok=True, verified=None, usage=usage))


async def purse(rows: Rows, scope: Scope = HUB, day: int = 0) -> Purse:
    return (await rows.store.purses(day)).purses.get(scope, Purse())


async def test_a_claim_that_does_not_fit_leaves_its_task_in_the_queue(rows: Rows) -> None:
    await bound(rows, Limits(micro=900_000))
    await rows.add(new_task(1), new_task(2))

    first, second = await claim(rows, 1), await claim(rows, 2)

    assert isinstance(first, Claimed)
    assert isinstance(second, Unfunded)
    assert (second.lack.need, second.lack.left, second.place) == (500_000, 400_000, (2, task_id(2)))
    assert await rows.states([1, 2]) == [TaskState.ASSIGNED, TaskState.QUEUED]
    assert (await purse(rows)).reserved == NEED


async def test_an_attempt_is_settled_to_what_it_has_used(rows: Rows) -> None:
    await bound(rows, Limits(micro=900_000))
    await bound(rows, Limits(tokens=1_000), ANN)
    await rows.add(new_task(1), new_task(2))
    epoch = (await claim(rows, 1)).epoch
    await rows.accept(1, epoch)

    await rows.finish(1, epoch, result=result(0.25))

    used = Purse(spent=Amount(tokens=30, micro=250_000, ms=2_000))
    assert (await purse(rows), await purse(rows, ANN)) == (used, used)
    assert isinstance(await claim(rows, 2), Claimed)


async def test_many_claims_of_one_batch_share_what_is_left(rows: Rows) -> None:
    await bound(rows, Limits(micro=2_000_000))
    await rows.add(*(new_task(number) for number in range(1, 9)))
    outcomes: list[Any] = []
    for number in range(1, 9):
        rows.store.post(replace(rows.claim_change(number), charge=Charge(0, "ann", "", NEED)), outcomes.append)

    await rows.join("barrier")

    assert [type(outcome) for outcome in outcomes] == [Claimed] * 4 + [Unfunded] * 4
    assert (await purse(rows)).reserved.micro == 2_000_000


@pytest.mark.parametrize("backend", ["sqlite-file", "postgres"])
async def test_of_a_thousand_claims_at_once_none_is_granted_beyond_a_budget(backend: str, tmp_path: Path) -> None:
    """Two hubs where the store takes several; what ends early makes room for others meanwhile."""
    chance = random.Random(1_000)
    limits = {HUB: Limits(tokens=400_000, micro=300_000_000), ANN: Limits(ms=20_000_000)}
    needs = [
        Amount(chance.randrange(2_000), chance.randrange(1_000_000), chance.randrange(90_000)) for _ in range(1_000)
    ]
    ends_early = [chance.random() < 0.5 for _ in needs]
    held, refused, most = list[Amount](), list[Unfunded](), list[Amount]()

    async def one(rows: Rows, number: int) -> None:
        outcome = await claim(rows, number, needs[number])
        if number % 10 == 0:
            most.extend([(await purse(rows)).taken, (await purse(rows, ANN)).taken])
        if not isinstance(outcome, Claimed):
            assert isinstance(outcome, Unfunded)
            refused.append(outcome)
        elif ends_early[number]:
            nothing = {"attempt": AttemptState.LOST, "failure": FailureClass.INFRA}
            await rows.finish(number, outcome.epoch, TaskState.QUEUED, **nothing)
        else:
            held.append(needs[number])

    async with contextlib.AsyncExitStack() as stack:
        number_of_hubs = 2 if backend == "postgres" else 1
        hubs = [await stack.enter_async_context(opened(backend, tmp_path)) for _ in range(number_of_hubs)]
        for scope, limit in limits.items():
            await bound(hubs[0], limit, scope)
        await hubs[0].add(*(new_task(number) for number in range(1_000)))
        await asyncio.gather(*(one(hubs[number % number_of_hubs], number) for number in range(1_000)))
        reserved, ann = (await purse(hubs[0])).reserved, (await purse(hubs[0], ANN)).reserved

    total = Amount()
    for need in held:
        total = total.plus(need)
    assert reserved == ann == total
    assert refused, "the budget has to be too small for all"
    assert held
    assert all(a.tokens <= 400_000 and a.micro <= 300_000_000 and a.ms <= 20_000_000 for a in most)


async def test_an_attempt_that_never_began_gives_everything_back(rows: Rows) -> None:
    await bound(rows, Limits(micro=500_000))
    await rows.add(new_task(1))
    epoch = (await claim(rows, 1)).epoch

    await rows.finish(1, epoch, TaskState.QUEUED, attempt=AttemptState.LOST, failure=FailureClass.INFRA)

    assert await purse(rows) == Purse()
    assert isinstance(await claim(rows, 1), Claimed)


async def test_an_attempt_that_is_lost_counts_whole_until_it_is_heard_of(rows: Rows) -> None:
    await bound(rows, Limits(micro=500_000))
    await rows.add(new_task(1))
    epoch = (await claim(rows, 1)).epoch
    await rows.accept(1, epoch)
    await rows.finish(1, epoch, TaskState.QUEUED, attempt=AttemptState.LOST, failure=FailureClass.INFRA)
    assert await purse(rows) == Purse(spent=NEED)

    late = Settle(task=task_id(1), epoch=epoch, usage=Usage(input_tokens=1, cost_usd=0.1))
    for _ in range(2):
        await rows.store.commit(late)

    assert await purse(rows) == Purse(spent=Amount(tokens=1, micro=100_000))
    for change in (replace(late, is_inherited=True), late):  # another one counts it as its own from now on
        await rows.store.commit(change)
        assert await purse(rows) == Purse()


async def test_an_attempt_counts_whole_if_its_sidecar_died_and_does_not_know_what_it_used(rows: Rows) -> None:
    await bound(rows, Limits(micro=500_000))
    await rows.add(new_task(1))
    epoch = (await claim(rows, 1)).epoch  # its sidecar has begun, and the hub has not heard of that
    lost = {"attempt": AttemptState.LOST, "failure": FailureClass.INFRA, "orderly": False}

    await rows.finish(1, epoch, TaskState.QUEUED, result=result(0.0, tokens=0), **lost)

    assert await purse(rows) == Purse(spent=NEED)


async def test_a_cancelled_attempt_counts_whole_until_it_tells(rows: Rows) -> None:
    await bound(rows, Limits(micro=500_000))
    await rows.add(new_task(1))
    epoch = (await claim(rows, 1)).epoch

    await rows.store.commit(Cancel(at_ms=9, task=task_id(1), reason="", by="me"))
    assert await purse(rows) == Purse(spent=NEED)
    await rows.store.commit(Settle(task=task_id(1), epoch=epoch, usage=Usage()))

    assert await purse(rows) == Purse()


async def test_an_attempt_in_hand_cannot_be_settled_from_beside(rows: Rows) -> None:
    await bound(rows, Limits(micro=500_000))
    await rows.add(new_task(1))
    epoch = (await claim(rows, 1)).epoch

    await rows.store.commit(Settle(task=task_id(1), epoch=epoch, usage=Usage()))

    assert await purse(rows) == Purse(reserved=NEED)


async def test_a_day_begins_with_full_purses(rows: Rows) -> None:
    await bound(rows, Limits(micro=500_000))
    await rows.add(new_task(1), new_task(2))
    await claim(rows, 1, day=3)

    assert isinstance(await claim(rows, 2, day=3), Unfunded)
    assert isinstance(await claim(rows, 2, day=4), Claimed)


async def test_a_task_is_given_no_more_of_its_own_money_than_is_left(rows: Rows) -> None:
    await rows.add(new_task(1))
    for cost, left in ((0.25, 0.0), (0.25, 0.25)):
        claimed = await rows.store.commit(replace(rows.claim_change(1), own_micro=500_000))
        assert claimed.spent_usd == left
        await rows.accept(1, claimed.epoch)
        await rows.finish(1, claimed.epoch, TaskState.QUEUED, result=result(cost))

    outcome = await rows.store.commit(replace(rows.claim_change(1), own_micro=500_000))

    assert isinstance(outcome, Spent)
    assert outcome.reason == "its attempts so far have used $0.50 of its budget of $0.50"
    assert await rows.state(1) is TaskState.FAILED


async def test_a_task_that_is_gone_is_said_before_any_budget(rows: Rows) -> None:
    await bound(rows, Limits(micro=1))
    await rows.add(new_task(1))
    await rows.completed(1)
    outcomes: list[Any] = []
    rows.store.post(replace(rows.claim_change(1), charge=Charge(0, "ann", "", NEED)), outcomes.append)

    await rows.join("barrier")

    assert isinstance(outcomes[0], StaleTask)


@pytest.mark.parametrize("backend", ["sqlite-file", "postgres"])
async def test_reservations_are_there_after_a_restart(backend: str, tmp_path: Path) -> None:
    async with opened(backend, tmp_path) as rows:
        await bound(rows, Limits(micro=900_000))
        await rows.add(new_task(1), new_task(2))
        epoch = (await claim(rows, 1)).epoch
    async with opened(backend, tmp_path) as rows:
        assert isinstance(await claim(rows, 2), Unfunded)
        await rows.accept(1, epoch)
        await rows.finish(1, epoch, result=result(0.1))
        assert (await purse(rows)).taken.micro == 100_000


async def test_a_budget_is_replaced_and_removed(rows: Rows) -> None:
    await bound(rows, Limits(micro=1))
    await bound(rows, Limits(tokens=7))
    assert [row.limits for row in await rows.store.budgets()] == [Limits(tokens=7)]

    await rows.store.commit(RemoveBudget(HUB, EVENT))

    assert await rows.store.budgets() == ()
    outcomes: list[Any] = []
    rows.store.post(RemoveBudget(HUB, EVENT), outcomes.append)
    await rows.join("barrier")
    assert isinstance(outcomes[0], NotFound)


async def test_what_models_were_used_for_is_kept_by_attempt_and_summed_by_step(rows: Rows) -> None:
    await rows.add(new_task(1, labels={"team": "x"}), new_task(2), new_task(3))
    for number, used in (
        (1, Usage(model="m", input_tokens=10, output_tokens=5, cached_input_tokens=2, cost_usd=0.25, seconds=1.5)),
        (2, Usage(model="m", input_tokens=1, output_tokens=1, cost_usd=None, seconds=2.0)),
        (3, None),
    ):
        epoch = (await rows.claim(number)).epoch
        await rows.accept(number, epoch)
        await rows.finish(number, epoch, used=used)

    found = {one.labels.get("team", ""): one for one in await rows.store.usage(0, 10_000, 10_000)}
    assert (found["x"].at_ms, found["x"].model, found["x"].submitter, found["x"].project) == (0, "m", "me", "")
    assert (found["x"].attempts, found["x"].micro, found["x"].ms, found["x"].unpriced) == (1, 250_000, 1_500, 0)
    assert (found["x"].input_tokens, found["x"].output_tokens, found["x"].cached_tokens) == (10, 5, 2)
    assert (found[""].attempts, found[""].micro, found[""].unpriced) == (1, 0, 1)
    assert len(found) == 2
    assert await rows.store.usage(10_000, 20_000, 10_000) == []

"""The verbs of budgets: a claim reserves what its attempt may use, the end of the attempt settles it.

All is decided in the transaction that gives or ends the attempt, by the rows that are true there: so several hubs
cannot grant the same money twice, and a hub that dies takes nothing along. The rules are ``hub/core/budgets.py``.
"""

from typing import Any, Final

from msgspec.structs import replace

from hub.core.budgets import (
    DAY_MS,
    Amount,
    Attempt,
    Charge,
    Ledger,
    Scope,
    amount_words,
    budget_id,
    micro,
    used_of,
)
from hub.core.routing import requirements_of
from hub.store import changes as c
from hub.store import records
from hub.store.batches import Statements, Write
from hub.store.budget_changes import PutBudget, RemoveBudget, Settle, Spent, Unfunded
from hub.store.climbing import spent_usd
from hub.store.proving import Proving
from hub.store.work import elsewhere
from protocol import codec
from protocol.errors import NotFound, StaleTask
from protocol.events import EventKind
from protocol.model import AttemptState, FailureClass, TaskState, Usage

KEPT_DAYS: Final = 31
"""How long purses stay after their day."""


class Budgeting(Proving):
    """All verbs; those that begin and end attempts keep the purses."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        self._usage_day = -1
        self._verbs |= {PutBudget: self._put_budget, RemoveBudget: self._remove_budget, Settle: self._settle_late}

    def _forget(self) -> None:
        super()._forget()
        self._forget_ledger()

    def _start(self) -> None:
        super()._start()
        if self._ledger is not None or self._looked:
            self._forget_ledger()

    def _forget_ledger(self) -> None:
        self._ledger: Ledger | None = None
        self._known: set[tuple[int, Scope]] = set()
        self._looked: set[Attempt] = set()

    def _begin(self) -> None:
        super()._begin()
        self._new_purses: set[tuple[int, Scope]] = set()
        self._new_charges: dict[Attempt, Charge | None] = {}

    def _taken(self) -> list[Write]:
        ledger, purses, charges = self._ledger, self._new_purses, self._new_charges
        writes = super()._taken()
        if ledger is None or not charges:
            return writes
        kept = [
            (*attempt, charge.day, charge.by, charge.project, *_columns(charge.need), attempt in ledger.presumed)
            for attempt, charge in charges.items()
            if charge is not None
        ]
        gone = [attempt for attempt, charge in charges.items() if charge is None]
        found = ((day, scope, ledger.purse(day, scope)) for day, scope in sorted(purses))
        rows = [(day, *scope, *_columns(purse.spent), *_columns(purse.reserved)) for day, scope, purse in found]
        mine: list[Write] = [("put_purse", rows), ("put_reservation", kept), ("drop_reservation", gone)]
        return [*writes, *((name, values) for name, values in mine if values)]

    # --- what people set ----------------------------------------------------------------------------------------------

    async def _put_budget(self, change: PutBudget) -> None:
        b = change.budget
        await self._run(
            "put_budget", *b.scope, b.limits.tokens, b.limits.micro, b.limits.ms, b.changed_ms, b.changed_by
        )
        self._note(change.event)

    async def _remove_budget(self, change: RemoveBudget) -> None:
        if not await self._changed("remove_budget", *change.scope):
            raise NotFound("budget", budget_id(change.scope))
        self._note(change.event)

    # --- attempts -----------------------------------------------------------------------------------------------------

    async def _claim(  # type: ignore[override]  # it ends in two more ways
        self, change: c.Claim
    ) -> c.Claimed | c.Unwilling | c.Buried | c.Ready | Unfunded | Spent:
        draft = await self._draft(change.task)
        is_free = change.own_micro is None and change.charge is None
        if is_free or (draft is not None and elsewhere(draft, change) is not None):
            return await super()._claim(change)
        if draft is None or draft.state != TaskState.QUEUED or draft.ready_ms is not None:
            raise StaleTask(change.task, TaskState.QUEUED, TaskState(draft.state) if draft else None)
        used_usd = await self._spent_usd(change.task) if change.own_micro is not None and draft.epoch else 0.0
        if change.own_micro is not None and used_usd and micro(used_usd) >= change.own_micro:
            return await self._refuse(change, change.own_micro, used_usd)
        if change.charge is None:
            claimed = await super()._claim(change)
            return replace(claimed, spent_usd=used_usd) if isinstance(claimed, c.Claimed) else claimed
        charge = _rest(change.charge, change.own_micro, used_usd)
        ledger = await self._ledger_of(charge.day, charge.scopes)
        if (lack := ledger.lack(charge)) is not None:
            return Unfunded(class_text=draft.class_text, place=(draft.priority, draft.id), lack=lack)
        claimed = await super()._claim(change)
        if not isinstance(claimed, c.Claimed):
            return claimed
        attempt = change.task, claimed.epoch
        ledger.reserve(attempt, charge)
        self._touch(attempt, charge)
        return replace(claimed, spent_usd=used_usd)

    async def _spent_usd(self, task: str) -> float:
        await self._write()
        return spent_usd([records.attempt(row) for row in await self._rows("attempts", task)])

    async def _refuse(self, change: c.Claim, limit: int, used_usd: float) -> Spent:
        """The task has spent all the money that it may: it ends, as it would in the middle of an attempt."""
        limit_words, spent_words = amount_words("micro", limit), amount_words("micro", micro(used_usd))
        reason = f"its attempts so far have used {spent_words} of its budget of {limit_words}"
        await self._end(change.task, TaskState.QUEUED, TaskState.FAILED, reason, change.at_ms)
        self._tell(EventKind.TASK_FAILED, change.at_ms, change.task, reason=reason, failure=FailureClass.BUDGET)
        await self._settle(change.task, TaskState.FAILED, change.at_ms)
        return Spent(reason=reason)

    async def _finish(self, change: c.Finish) -> c.Finished:
        draft = await self._draft(change.task)
        if change.used is not None and draft is not None:
            await self._note_usage(change, change.used, requirements_of(draft.class_text).project)
        if not change.is_charged:
            return await super()._finish(change)
        was_started = draft is not None and draft.started_ms is not None
        finished = await super()._finish(change)
        attempt = change.task, change.epoch
        if change.result is not None and change.orderly:
            usage = codec.decode_result(change.result).usage
            if (charge := await self._charge_of(attempt)) is not None:
                await self._settled(attempt, used_of(usage, charge.need))
        elif was_started or change.result is not None:  # a sidecar that died during the work does not know
            await self._presumed(attempt)
        else:
            await self._settled(attempt, Amount())
        return finished

    async def _note_usage(self, change: c.Finish, used: Usage, project: str) -> None:
        """Keep what an attempt of a model has used, whose it was; the first of a day forgets what is too old."""
        await self._write()
        day = change.at_ms // DAY_MS
        if day != self._usage_day:
            self._usage_day = day
            await self._run("forget_usage", (day - KEPT_DAYS) * DAY_MS)
        cost = None if used.cost_usd is None else micro(used.cost_usd)
        tokens = used.input_tokens, used.output_tokens, used.cached_input_tokens
        at = change.at_ms, change.task, change.epoch
        await self._run("add_usage", *at, used.model, project, *tokens, cost, round(used.seconds * 1000))

    async def _end_attempt(
        self, task: str, epoch: int, state: AttemptState, failure: FailureClass, reason: str, at_ms: int
    ) -> None:
        await super()._end_attempt(task, epoch, state, failure, reason, at_ms)
        if epoch:
            await self._presumed((task, epoch))

    async def _settle_late(self, change: Settle) -> None:
        attempt = change.task, change.epoch
        charge = await self._charge_of(attempt)
        if charge is None or self._ledger is None or attempt not in self._ledger.presumed:
            return
        if change.is_inherited:
            await self._settled(attempt, Amount())
        elif (told := self._ledger.tell(attempt, used_of(change.usage, charge.need))) is not None:
            self._touch(attempt, told)

    # --- the ledger of this batch -------------------------------------------------------------------------------------

    async def _settled(self, attempt: Attempt, used: Amount) -> None:
        if (charge := await self._charge_of(attempt)) is not None:
            (await self._ledger_of(charge.day, charge.scopes)).settle(attempt, used)
            self._touch(attempt, charge, is_gone=True)

    async def _presumed(self, attempt: Attempt) -> None:
        if (charge := await self._charge_of(attempt)) is not None:
            (await self._ledger_of(charge.day, charge.scopes)).presume(attempt)
            self._touch(attempt, charge)

    def _touch(self, attempt: Attempt, charge: Charge, *, is_gone: bool = False) -> None:
        self._new_charges[attempt] = None if is_gone else charge
        self._new_purses |= {(charge.day, scope) for scope in charge.scopes}

    async def _ledger_of(self, day: int, scopes: tuple[Scope, ...]) -> Ledger:
        """The ledger, with the purses of these scopes."""
        ledger = self._ledger
        if ledger is None:
            rows = [records.budget(row) for row in await self._rows("budgets")]
            ledger = self._ledger = Ledger({row.scope: row.limits for row in rows})
        for scope in scopes:
            if (day, scope) in self._known:
                continue
            self._known.add((day, scope))
            if (row := await self._row("find_purse", day, *scope)) is not None:
                ledger.purses[day, scope] = records.purse(row)
            elif scope == scopes[0]:  # the first one of a new day
                await self._run("forget_purses", day - KEPT_DAYS)
                await self._run("forget_reservations", day - KEPT_DAYS)
        return ledger

    async def _charge_of(self, attempt: Attempt) -> Charge | None:
        """What an attempt has reserved and not settled."""
        ledger = self._ledger
        if ledger is not None and (known := ledger.open.get(attempt) or ledger.presumed.get(attempt)) is not None:
            return known
        if attempt in self._looked or attempt in self._new_charges:
            return None
        self._looked.add(attempt)
        row = await self._row("find_reservation", *attempt)
        if row is None:
            return None
        charge, is_presumed = records.charge(row)
        ledger = await self._ledger_of(charge.day, charge.scopes)
        (ledger.presumed if is_presumed else ledger.open)[attempt] = charge
        return charge


def _rest(charge: Charge, own_micro: int | None, used_usd: float) -> Charge:
    """The charge without what earlier attempts have used of the task's own money."""
    if own_micro is None or not used_usd:
        return charge
    left = max(0, own_micro - micro(used_usd))
    return replace(charge, need=replace(charge.need, micro=min(charge.need.micro, left)))


def _columns(amount: Amount) -> tuple[Any, ...]:
    return amount.tokens, amount.micro, amount.ms

"""Budgets: what may be used a day, by everybody, by one submitter, in one project; how it stands.

What counts is in the store, and decided there when an attempt is granted. This keeps the scheduler's picture of it
(:class:`hub.core.charging.Charging`) close to the rows: after a change, now and then, and when the store refuses what
the picture allows. A task that does not fit waits; a day that begins wakes it.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import structlog
from msgspec.structs import asdict

from hub.core.agent import Held
from hub.core.budgets import (
    DAY_MS,
    MICRO,
    Amount,
    Limits,
    Purse,
    Scope,
    budget_id,
    lack_words,
    micro,
    scope_of,
)
from hub.core.charging import Charging
from hub.core.fleet import Fleet
from hub.core.matching import Match
from hub.core.routing import Requirements
from hub.core.usage import grouped
from hub.store.budget_changes import BudgetRow, Purses, PutBudget, RemoveBudget
from hub.store.rows import moment
from hub.store.store import Store
from protocol.budgets import (
    MAX_SECONDS,
    MAX_TOKENS,
    MAX_USD,
    BudgetAmount,
    BudgetBody,
    BudgetList,
    BudgetView,
)
from protocol.clock import Clock
from protocol.errors import BadInput, NotFound, Problem, StoreFailed, Unavailable
from protocol.events import Event, EventKind
from protocol.model import Usage
from protocol.usage import UsageBy, UsageList

log = structlog.get_logger(__name__)
HOUR_S: Final = 3_600
MOST_STEPS: Final = 800
"""Steps of time in one answer about use: a month by the hour."""
LOOK_S: Final = 2.0
"""Between two looks at the purses, while there are budgets."""
CALM_S: Final = 0.1
FORM: Final = "hub, submitter:TOKEN_ID or project:NAME"


class Budgets:
    """The use cases of budgets.

    Args:
        charging: the scheduler's picture.

    Attributes:
        knows: by scope, whether there is anybody of that name.
    """

    def __init__(self, store: Store, fleet: Fleet, clock: Clock, charging: Charging) -> None:
        self._store, self._fleet, self._clock, self.charging = store, fleet, clock, charging
        self.knows: Mapping[str, Callable[[str], bool]] = {}
        self._news = asyncio.Event()
        charging.on_stale = self._news.set

    async def run(self) -> None:
        """Keep the scheduler's picture close to the rows, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._news.clear()
            await asyncio.sleep(CALM_S)  # whatever happens, the rows are not read more often
            if self._fleet.quotas.was_short:
                self._fleet.quotas.was_short = False
                self._store.wake()  # a minute passes without anything else that would wake the scheduler
            if not self.charging.is_on:
                continue
            try:
                await self.reload()
            except StoreFailed:
                return  # the hub is ending
            except Unavailable as exc:
                log.debug("budgets_unread", why=str(exc), next="trying again")

    def used(self, held: Held, usage: Usage) -> None:
        """An attempt has ended, and says what it has used."""
        self.charging.use(held.task, held.epoch, usage)
        if held.server is not None and any(
            held.server[1] == each.id and (each.rpm or each.tpm) for each in self._fleet.endpoints
        ):
            requests, tokens = usage.bill.requests if usage.bill else 1, usage.input_tokens + usage.output_tokens
            self._fleet.quotas.used(held.server, requests, tokens, usage.seconds, self._clock.monotonic())

    async def reload(self) -> None:
        """Look at the rows: when another hub has changed a budget, or used what this one counts on."""
        self.take(await self._purses())

    def take(self, found: Purses) -> None:
        """This is how it stands in the store."""
        limits = {row.scope: row.limits for row in found.budgets}
        was_short = self.charging.was_short
        held = {(held.task, held.epoch) for held in self._fleet.held.values()}
        self.charging.load(limits, found.day, found.purses, held)
        if was_short:
            self._store.wake()

    async def _purses(self) -> Purses:
        return await self._store.purses(self._clock.now_ms() // DAY_MS)

    # --- what people ask ----------------------------------------------------------------------------------------------

    async def list(self) -> BudgetList:
        """All budgets and how they stand today."""
        found = await self._purses()
        views = [self._view(row, found.purses.get(row.scope, Purse())) for row in found.budgets]
        return BudgetList(budgets=tuple(sorted(views, key=lambda view: view.id)))

    async def show(self, budget: str) -> BudgetView:
        """One of them.

        Raises:
            NotFound: there is no such budget.
        """
        for view in (await self.list()).budgets:
            if view.id == budget:
                return view
        raise NotFound("budget", budget[:100])

    async def usage(self, by: UsageBy, since_s: int | None, until_s: int | None, step_s: int) -> UsageList:
        """What attempts have used of models between two moments (Unix seconds): the last week, if nobody says.

        Raises:
            BadInput: the times make no sense, or the answer would be too long.
        """
        until = until_s if until_s is not None else self._clock.now_ms() // 1000 + 1
        since = since_s if since_s is not None else until - 7 * DAY_MS // 1000
        step = step_s or max(HOUR_S, -(-(until - since) // MOST_STEPS))
        if since >= until:
            raise BadInput([Problem("since", "it is not before `until`")], "query")
        if (until - since) // step > MOST_STEPS:
            raise BadInput([Problem("step_s", f"that would be over {MOST_STEPS} steps; ask for longer ones")], "query")
        sums = await self._store.usage(since * 1000, until * 1000, step * 1000)
        return UsageList(by=by, step_s=step, groups=grouped(sums, by))

    async def put(self, budget: str, body: BudgetBody, by: str) -> BudgetView:
        """Set a budget, new or changed. What attempts in hand have reserved stays reserved.

        Raises:
            BadInput: no budget can be called or be so.
        """
        scope = _scope(budget)
        problems = _problems(body)
        knows = self.knows.get(scope[0])
        if knows is not None and not knows(scope[1]):
            problems.append(Problem("id", f"there is no {scope[0].value} {scope[1][:60]!r}"))
        if problems:
            raise BadInput(problems, "budget")
        usd, seconds = body.usd, body.seconds
        limits = Limits(
            tokens=body.tokens,
            micro=None if usd is None else micro(usd),
            ms=None if seconds is None else int(seconds * 1000),
        )
        row = BudgetRow(scope=scope, limits=limits, changed_ms=self._clock.now_ms(), changed_by=by)
        facts = {name: value for name, value in asdict(body).items() if value is not None}
        await self._store.commit(PutBudget(row, self._event(EventKind.BUDGET_SET, scope, by, **facts)))
        await self.reload()
        self._store.wake()
        return await self.show(budget_id(scope))

    async def remove(self, budget: str, by: str) -> None:
        """Forget a budget: what it bounded has no limit from now on.

        Raises:
            NotFound: there is no such budget.
        """
        scope = scope_of(budget)
        if scope is None:
            raise NotFound("budget", budget[:100])
        await self._store.commit(RemoveBudget(scope, self._event(EventKind.BUDGET_REMOVED, scope, by)))
        await self.reload()
        self._store.wake()

    def waits(
        self, requirements: Requirements, found: Match, task: str
    ) -> tuple[str, tuple[str, ...], float | None] | None:
        """Why work that somebody could do waits for a budget, what would move it, and for how long (seconds)."""
        if not self.charging.is_on or not found.ways:
            return None
        now_ms = self._clock.now_ms()
        lack = self.charging.lack(requirements, found.ways[0], now_ms, task)
        if lack is None:
            return None
        wait_s = None if lack.never else (DAY_MS - now_ms % DAY_MS) / 1000
        return *lack_words(lack, now_ms), wait_s

    # --- parts --------------------------------------------------------------------------------------------------------

    def _view(self, row: BudgetRow, purse: Purse) -> BudgetView:
        limits, taken = row.limits, purse.taken
        day = self._clock.now_ms() // DAY_MS
        left = Limits(
            tokens=None if limits.tokens is None else max(0, limits.tokens - taken.tokens),
            micro=None if limits.micro is None else max(0, limits.micro - taken.micro),
            ms=None if limits.ms is None else max(0, limits.ms - taken.ms),
        )
        return BudgetView(
            id=budget_id(row.scope),
            scope=row.scope[0],
            name=row.scope[1],
            limit=_body(limits),
            spent=_amount(purse.spent),
            reserved=_amount(purse.reserved),
            left=_body(left),
            resets_at=datetime.fromtimestamp((day + 1) * DAY_MS / 1000, UTC),
            changed_at=moment(row.changed_ms),
            changed_by=row.changed_by,
        )

    def _event(self, kind: EventKind, scope: Scope, by: str, **facts: object) -> Event:
        name = budget_id(scope)
        log.info(kind.value, budget=name, by=by, **facts)
        return Event(kind=kind, at_ms=self._clock.now_ms(), facts={"budget": name, "by": by, **facts})


def _scope(budget: str) -> Scope:
    found = scope_of(budget)
    if found is None:
        raise BadInput([Problem("id", f"{budget[:60]!r}; a budget is named {FORM}")], "budget")
    return found


def _problems(body: BudgetBody) -> list[Problem]:
    most = {"tokens": MAX_TOKENS, "usd": MAX_USD, "seconds": MAX_SECONDS}
    given = {name: value for name, value in asdict(body).items() if value is not None}
    if not given:
        return [Problem("", "it bounds nothing: give at least one of tokens, usd, seconds")]
    return [
        Problem(name, f"{value:g}; from 0 to {most[name]:g}")
        for name, value in given.items()
        if not 0 <= value <= most[name]
    ]


def _amount(amount: Amount) -> BudgetAmount:
    return BudgetAmount(tokens=amount.tokens, usd=amount.micro / MICRO, seconds=amount.ms / 1000)


def _body(limits: Limits) -> BudgetBody:
    return BudgetBody(
        tokens=limits.tokens,
        usd=None if limits.micro is None else limits.micro / MICRO,
        seconds=None if limits.ms is None else limits.ms / 1000,
    )

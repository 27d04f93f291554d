"""How often who may ask: one bucket for each token and class of requests, and one for each address of strangers.

Asked before any handler runs, so it lies in memory and costs no query; a hub counts for itself what it is asked. The
usual limits are far above what people, programs and whole fleets need: they keep one token that has run wild from
taking the hub from all others. What an administrator sets instead, for a class or for one token, is kept in the store.
The arithmetic is ``hub/core/buckets.py``; callers are ``hub/web/guard.py`` and ``hub/web/rate_limits.py``.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

import structlog

from hub.core.buckets import Bucket, Limit
from hub.store.rate_changes import DropRates, PutRate, RateRow
from hub.store.store import Store
from protocol.clock import Clock
from protocol.errors import BadInput, NotFound, Problem, Throttled
from protocol.events import Event, EventKind
from protocol.rate_limits import Action, CallerView, RateBody, RateList, RateView

log = structlog.get_logger(__name__)
USUAL: Final[Mapping[Action, Limit]] = MappingProxyType(
    {
        # Above the 4,000 single submissions a second that a hub is built for (``tests/bench/goals.py``).
        Action.READ: Limit(per_s=5_000.0, burst=50_000),
        Action.WRITE: Limit(per_s=5_000.0, burst=50_000),
        Action.HEAVY: Limit(per_s=5.0, burst=100),
        Action.STRANGER: Limit(per_s=5.0, burst=1_000),
    }
)
MOST_STRANGERS: Final = 10_000
"""Addresses that are remembered; the one that has asked first is forgotten first."""
MOST_SHOWN: Final = 100


class RateLimits:
    """The limits and who has used how much of them. Make one with :meth:`load`.

    Args:
        label: what people call a token; ``None``: there is none of this id.

    Attributes:
        refused: requests that were, by class.
    """

    def __init__(self, store: Store, clock: Clock, label: Callable[[str], str | None]) -> None:
        self._store, self._clock, self._label = store, clock, label
        self._rows: dict[tuple[str, Action], RateRow] = {}
        self._limits = dict(USUAL)
        self._own: dict[tuple[str, Action], Limit] = {}
        self._buckets: dict[tuple[str, Action], Bucket] = {}
        self._strangers: dict[str, Bucket] = {}
        self.refused = Counter[Action]()

    @classmethod
    async def load(cls, store: Store, clock: Clock, label: Callable[[str], str | None]) -> "RateLimits":
        """The service, with what was set."""
        made = cls(store, clock, label)
        await made.reload()
        return made

    async def reload(self) -> None:
        """Read again what was set: this hub has changed it, or another one has."""
        self._rows = {(row.subject, row.action): row for row in await self._store.rates()}
        self._limits = {action: self._limit("", action) for action in USUAL}
        self._own = {key: row.limit for key, row in self._rows.items() if key[0]}

    def _limit(self, subject: str, action: Action) -> Limit:
        row = self._rows.get((subject, action))
        return USUAL[action] if row is None else row.limit

    # --- asking -------------------------------------------------------------------------------------------------------

    def ask(self, token: str, action: Action) -> None:
        """Count one request of this token.

        Raises:
            Throttled: it asks too often; ``retry_after_s`` says when to come back.
        """
        key = (token, action)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket()
        wait_s = bucket.ask(self._own.get(key) or self._limits[action], self._clock.monotonic())
        if wait_s:
            self._refuse(action, wait_s, token=token, strikes=bucket.strikes)
            raise Throttled(f"this token asks too often (class {action.value})", wait_s)

    def ask_all(self, token: str, action: Action, count: int) -> bool:
        """Count so many requests of this token that came together, if all may pass; else none, and each has to ask."""
        key = (token, action)
        bucket = self._buckets.get(key)
        limit = self._own.get(key) or self._limits[action]
        return bucket is not None and bucket.ask_all(limit, self._clock.monotonic(), count)

    def give_back(self, token: str, action: Action) -> None:
        """One request of this token that was counted is going to be counted again."""
        key = (token, action)
        self._buckets[key].give_back(self._own.get(key) or self._limits[action])

    def stranger(self, address: str) -> None:
        """Count one credential that does not count, from this address. One that does is never refused for others'.

        Raises:
            Throttled: there were too many.
        """
        bucket = self._strangers.get(address)
        if bucket is None:
            if len(self._strangers) >= MOST_STRANGERS:
                del self._strangers[next(iter(self._strangers))]
            bucket = self._strangers[address] = Bucket()
        wait_s = bucket.ask(self._limits[Action.STRANGER], self._clock.monotonic())
        if wait_s:
            self._refuse(Action.STRANGER, wait_s, address=address, strikes=bucket.strikes)
            raise Throttled("too many credentials that do not count come from this address", wait_s)

    def _refuse(self, action: Action, wait_s: float, **who: object) -> None:
        self.refused[action] += 1
        log.debug("throttled", action=action.value, wait_s=round(wait_s, 1), **who)

    # --- what people see and set --------------------------------------------------------------------------------------

    def show(self) -> RateList:
        """All limits, and the callers that have one of their own or were refused lately."""
        return RateList(limits=tuple(self._view(action) for action in USUAL), callers=tuple(self._callers()))

    async def put(self, subject: str, body: RateBody, by: str) -> RateList:
        """Set the limit of a class (its name), or of a token (its id) in the class that the body names.

        Raises:
            BadInput: a class is named twice or not at all.
            NotFound: there is no such class or token.
        """
        token, action = self._find(subject, body.action)
        if action is None:
            raise BadInput([Problem("action", f"say which limit of the token: {', '.join(_OF_TOKENS)}")], "limit")
        row = RateRow(
            subject=token,
            action=action,
            limit=Limit(body.per_s, body.burst),
            changed_ms=self._clock.now_ms(),
            changed_by=by,
        )
        facts = {"per_s": body.per_s, "burst": body.burst}
        await self._store.commit(PutRate(row, self._event(EventKind.RATE_LIMIT_SET, token, action, by, **facts)))
        await self._changed(token, action)
        return self.show()

    async def reset(self, subject: str, by: str) -> None:
        """Give a class its usual limit again, or take all limits of its own from a token.

        Raises:
            NotFound: nothing was set for it.
        """
        token, action = self._find(subject, None)
        event = self._event(EventKind.RATE_LIMIT_RESET, token, action, by)
        await self._store.commit(DropRates(token, action, event))
        await self._changed(token, action)

    async def _changed(self, token: str, action: Action | None) -> None:
        await self.reload()
        for (caller, of), bucket in self._buckets.items():
            if (caller == token or not token) and (action is None or of is action):
                bucket.forgive()
        if action is Action.STRANGER:
            self._strangers.clear()

    def _find(self, subject: str, action: Action | None) -> tuple[str, Action | None]:
        if subject in USUAL:
            if action is not None and action != subject:
                raise BadInput([Problem("action", f"is {subject} already: the path names it")], "limit")
            return "", Action(subject)
        if self._label(subject) is None:
            raise NotFound("limit", subject[:100])
        if action is Action.STRANGER:
            raise BadInput([Problem("action", f"a token has the limits {', '.join(_OF_TOKENS)}")], "limit")
        return subject, action

    def _event(self, kind: EventKind, token: str, action: Action | None, by: str, **facts: float) -> Event:
        said = {"token": token, "action": action.value if action else "", "by": by, **facts}
        log.info(kind.value, **said)
        return Event(
            kind=kind, at_ms=self._clock.now_ms(), facts={name: value for name, value in said.items() if value}
        )

    def _view(self, action: Action) -> RateView:
        limit, usual, row = self._limits[action], USUAL[action], self._rows.get(("", action))
        return RateView(
            action=action,
            per_s=limit.per_s,
            burst=limit.burst,
            default_per_s=usual.per_s,
            default_burst=usual.burst,
            refused=self.refused[action],
            changed_at=_at(row),
            changed_by=row.changed_by if row else "",
        )

    def _callers(self) -> list[CallerView]:
        now = self._clock.monotonic()
        strangers = {(address, Action.STRANGER): bucket for address, bucket in self._strangers.items()}
        known = {key: bucket for key, bucket in (self._buckets | strangers).items() if bucket.refused}
        none = Bucket()
        views = [
            self._caller(caller, action, known.get((caller, action), none), now)
            for caller, action in {**self._own, **known}
        ]
        return sorted(views, key=lambda view: (-view.wait_s, -view.refused, view.caller, view.action))[:MOST_SHOWN]

    def _caller(self, caller: str, action: Action, bucket: Bucket, now: float) -> CallerView:
        row = self._rows.get((caller, action))
        limit = self._limits[action] if row is None else row.limit
        return CallerView(
            caller=caller,
            action=action,
            per_s=limit.per_s,
            burst=limit.burst,
            is_own=row is not None,
            refused=bucket.refused,
            strikes=bucket.strikes,
            wait_s=round(bucket.wait_s(now), 1),
            label="" if action is Action.STRANGER else self._label(caller) or "",
            changed_at=_at(row),
            changed_by=row.changed_by if row else "",
        )


_OF_TOKENS: Final = tuple(action.value for action in USUAL if action is not Action.STRANGER)


def _at(row: RateRow | None) -> datetime | None:
    return None if row is None else datetime.fromtimestamp(row.changed_ms / 1000, UTC)

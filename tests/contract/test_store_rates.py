"""The promises of a store about limits on how often may be asked: what was set stays, until somebody takes it back."""

import pytest

from hub.core.buckets import Limit
from hub.store.rate_changes import DropRates, PutRate, RateRow
from protocol.errors import NotFound
from protocol.events import Event, EventKind
from protocol.rate_limits import Action
from tests.support.stores import Rows

EVENT = Event(kind=EventKind.RATE_LIMIT_SET, at_ms=1, facts={"by": "me"})


def rate(subject: str, action: Action, per_s: float = 1.5, burst: int = 3) -> RateRow:
    return RateRow(subject=subject, action=action, limit=Limit(per_s, burst), changed_ms=5, changed_by="me")


async def test_limits_are_kept_by_class_and_token(rows: Rows) -> None:
    kept = [rate("", Action.READ), rate("t1", Action.READ), rate("t1", Action.WRITE)]
    for row in kept:
        await rows.store.commit(PutRate(row, EVENT))
    await rows.store.commit(PutRate(rate("t1", Action.WRITE, 0.01, 1_000_000), EVENT))

    assert await rows.store.rates() == [*kept[:2], rate("t1", Action.WRITE, 0.01, 1_000_000)]


async def test_a_limit_is_forgotten_alone_and_those_of_a_token_together(rows: Rows) -> None:
    for row in (rate("", Action.READ), rate("", Action.HEAVY), rate("t1", Action.READ), rate("t1", Action.WRITE)):
        await rows.store.commit(PutRate(row, EVENT))

    await rows.store.commit(DropRates("", Action.READ, EVENT))
    await rows.store.commit(DropRates("t1", None, EVENT))

    assert await rows.store.rates() == [rate("", Action.HEAVY)]
    with pytest.raises(NotFound):
        await rows.store.commit(DropRates("t1", None, EVENT))

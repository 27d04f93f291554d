from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.services.rate_limits import MOST_STRANGERS, USUAL, RateLimits
from hub.store.sqlite import SqliteStore
from protocol.errors import BadInput, NotFound, Throttled
from protocol.events import EventKind
from protocol.rate_limits import Action, RateBody

LABELS = {"t1": "ci", "t2": ""}


class HandClock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def now_ms(self) -> int:
        return int(self.now_s * 1000)

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def store(tmp_path: Path, clock: HandClock) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "hub.sqlite")
    await store.open()
    await store.start(clock.now_ms())
    yield store
    await store.close()


@pytest.fixture
async def limits(store: SqliteStore, clock: HandClock) -> RateLimits:
    return await RateLimits.load(store, clock, LABELS.get)


def passed(limits: RateLimits, token: str, action: Action, times: int) -> int:
    count = 0
    for _ in range(times):
        try:
            limits.ask(token, action)
        except Throttled:
            continue
        count += 1
    return count


async def test_each_token_has_a_bucket_of_each_class(limits: RateLimits, clock: HandClock) -> None:
    burst = USUAL[Action.HEAVY].burst

    assert passed(limits, "t1", Action.HEAVY, burst + 5) == burst
    assert passed(limits, "t2", Action.HEAVY, 3) == 3
    assert passed(limits, "t1", Action.READ, 3) == 3
    clock.now_s += 2.0
    assert passed(limits, "t1", Action.HEAVY, 3) == 3
    assert limits.refused == {Action.HEAVY: 5}


async def test_what_a_hub_is_built_for_is_never_refused(limits: RateLimits, clock: HandClock) -> None:
    for _ in range(150):
        assert passed(limits, "t1", Action.WRITE, 400) == 400
        clock.now_s += 0.1


async def test_a_refusal_says_when_to_come_back(limits: RateLimits) -> None:
    await limits.put("read", RateBody(per_s=0.1, burst=1), "me")
    limits.ask("t1", Action.READ)

    with pytest.raises(Throttled, match=r"this token asks too often \(class read\); try again in 10 s") as caught:
        limits.ask("t1", Action.READ)
    assert caught.value.retry_after_s == 10.0


async def test_what_was_set_counts_at_once_and_after_a_restart(
    limits: RateLimits, store: SqliteStore, clock: HandClock
) -> None:
    await limits.put("write", RateBody(per_s=1.0, burst=3), "admin")
    told = await limits.put("t1", RateBody(per_s=1.0, burst=7, action=Action.WRITE), "admin")
    again = await RateLimits.load(store, clock, LABELS.get)

    for each in (limits, again):
        assert passed(each, "t1", Action.WRITE, 10) == 7
        assert passed(each, "t2", Action.WRITE, 10) == 3
    assert [(view.burst, view.default_burst, view.changed_by) for view in told.limits if view.action == "write"] == [
        (3, USUAL[Action.WRITE].burst, "admin")
    ]
    assert [(view.caller, view.label, view.burst, view.is_own) for view in told.callers] == [("t1", "ci", 7, True)]


async def test_a_limit_that_is_set_anew_forgives_whom_it_held_back(limits: RateLimits) -> None:
    await limits.put("read", RateBody(per_s=0.01, burst=1), "me")
    assert passed(limits, "t1", Action.READ, 5) == 1

    await limits.reset("read", "me")

    assert passed(limits, "t1", Action.READ, 5) == 5


async def test_a_token_loses_all_its_own_limits_with_one_word(limits: RateLimits) -> None:
    for action in (Action.READ, Action.HEAVY):
        await limits.put("t1", RateBody(per_s=1.0, burst=1, action=action), "me")
    await limits.reset("t1", "me")

    assert not limits.show().callers
    with pytest.raises(NotFound):
        await limits.reset("t1", "me")


@pytest.mark.parametrize(
    "subject, action, error",
    [
        ("t1", None, BadInput),
        ("t1", Action.STRANGER, BadInput),
        ("read", Action.WRITE, BadInput),
        ("nobody", Action.READ, NotFound),
    ],
)
async def test_a_limit_of_nothing_is_refused(
    limits: RateLimits, subject: str, action: Action | None, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await limits.put(subject, RateBody(per_s=1.0, burst=1, action=action), "me")


async def test_a_thousand_wrong_credentials_of_an_address_are_heard_and_then_it_waits(
    limits: RateLimits, clock: HandClock
) -> None:
    for _ in range(1_000):
        limits.stranger("10.0.0.1")

    with pytest.raises(Throttled, match="credentials that do not count") as caught:
        limits.stranger("10.0.0.1")
    limits.stranger("10.0.0.2")
    limits.ask("t1", Action.READ)
    assert caught.value.retry_after_s == 1.0
    clock.now_s += 1.01
    limits.stranger("10.0.0.1")
    assert [view.caller for view in limits.show().callers] == ["10.0.0.1"]


async def test_strangers_fill_no_memory(limits: RateLimits) -> None:
    for number in range(MOST_STRANGERS + 50):
        limits.stranger(f"address {number}")

    assert len(limits._strangers) == MOST_STRANGERS


async def test_the_log_of_facts_tells_who_set_what(limits: RateLimits, store: SqliteStore) -> None:
    await limits.put("t1", RateBody(per_s=2.0, burst=5, action=Action.READ), "admin")
    await limits.reset("t1", "admin")

    told = [event for event in await store.events(0, 100) if event.kind.value.startswith("rate_limit")]
    assert [event.kind for event in told] == [EventKind.RATE_LIMIT_SET, EventKind.RATE_LIMIT_RESET]
    assert told[0].facts == {"token": "t1", "action": "read", "by": "admin", "per_s": 2.0, "burst": 5}

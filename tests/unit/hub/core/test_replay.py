"""The promises of a replay: the same rules give the same answer, and what is different is told."""

import random

import pytest
from msgspec.structs import replace

from hub.core.agent import Held
from hub.core.fleet import Fleet
from hub.core.matching import Matcher
from hub.core.replay import again, choose, state_after
from hub.core.routing import Placement, decode_placement, encode_placement, route
from hub.core.scheduling import plan
from hub.core.window import Window
from protocol.events import Event, EventKind
from protocol.ids import encode
from protocol.model import Residency, Strategy, TaskSpec, TaskState, Tier
from tests.support.machines import add, model

SPEC = TaskSpec(title="x", prompt="say it", executor="chat")


def decided(seed: int) -> list[Placement]:
    """What a plan decides on a fleet of any kind, as it is kept with the attempts."""
    rng = random.Random(seed)
    fleet, window = Fleet(), Window()
    for number in range(rng.randint(1, 20)):
        residency = rng.choice([Residency.WARM, Residency.COLD])
        add(fleet, f"a{number:02}", model("m", rng.choice([4.0, 8.0]), residency), slots=rng.randint(1, 4))
    _, requirements = route(SPEC)
    for number in range(rng.randint(1, 30)):
        window.add(requirements.text, (2, encode((seed * 100 + number) << 80)))
    kept = []
    for made in plan(window, fleet, Matcher(fleet)):
        placement = Placement(
            strategy=made.way.strategy,
            executor="chat",
            agent=made.agent.name,
            endpoint=made.way.endpoint,
            model=made.way.model,
            reason="",
            at_ms=1,
            seen=made.seen,
        )
        fleet.take(Held(made.place[1], 1, made.agent.name, 1, 0.0))
        kept.append(decode_placement(encode_placement(placement)))
    return kept


@pytest.mark.parametrize("seed", range(25))
def test_every_decision_of_a_plan_is_the_same_when_it_is_made_again(seed: int) -> None:
    tier, requirements = route(SPEC)
    placements = decided(seed)

    assert placements
    for placement in placements:
        found = again(SPEC, tier, requirements.text, placement)
        assert (found.differences, found.now) == ((), found.then)
        assert 1 <= found.ways <= 16


def test_another_way_than_the_best_one_is_told() -> None:
    tier, requirements = route(SPEC)
    placement = next(p for seed in range(25) for p in decided(seed) if len(p.seen) > 1)
    forged = replace(placement, agent="somebody")
    worse = replace(placement, seen=(replace(placement.seen[0], share=9.0, terms=(99.0,) * 11), *placement.seen[1:]))

    for changed in (forged, worse):
        (found,) = again(SPEC, tier, requirements.text, changed).differences
        assert found.startswith("way: ")


def test_a_tier_that_would_be_another_now_is_told() -> None:
    tier, requirements = route(SPEC)
    placement = Placement(strategy=Strategy.TRIVIAL, executor="shell", agent="a", reason="", at_ms=1)
    other = replace(tier, inferred=Tier.COMPLEX, effective=Tier.COMPLEX)

    told = again(SPEC, other, requirements.text, placement).differences
    assert [each.partition(":")[0] for each in told] == ["tier", "executor", "strategy"]


@pytest.mark.parametrize(
    "waits, firsts, chosen",
    [
        ([], 0, None),
        ([1.0, 5.0], 2, 0),
        ([5.0, 1.0], 1, 0),  # the first choice begins soon enough
        ([50.0, 1.0], 1, 1),
        ([50.0, 60.0], 1, 0),  # the rest of the chain would be no sooner
        ([60.0], 0, 0),
    ],
)
def test_the_rest_of_the_chain_counts_only_when_the_first_choice_takes_too_long(
    waits: list[float], firsts: int, chosen: int | None
) -> None:
    ranks = [(float(number), 0.0, 0) for number in range(len(waits))]

    assert choose(ranks, waits, firsts, 10.0) == chosen


def test_events_lead_to_the_state() -> None:
    kinds = [
        EventKind.TASK_BLOCKED,
        EventKind.TASK_QUEUED,
        EventKind.TASK_ASSIGNED,
        EventKind.TASK_STARTED,
        EventKind.TASK_PAUSING,
        EventKind.TASK_PAUSED,
        EventKind.TASK_RESUMED,
        EventKind.TASK_ASSIGNED,
        EventKind.ATTEMPT_LOST,
        EventKind.TASK_REQUEUED,
        EventKind.TASK_PROVING,
        EventKind.TASK_COMPLETED,
    ]
    events = [Event(kind=kind, at_ms=1, task="t") for kind in kinds]
    states = [state_after(events[: n + 1]) for n in range(len(events))]

    assert state_after([]) is None
    assert [state.value for state in states if state] == [
        "blocked", "queued", "assigned", "running", "running", "waiting", "queued", "assigned", "assigned", "queued",
        "queued", "completed",
    ]  # fmt: skip
    assert states[-1] is TaskState.COMPLETED

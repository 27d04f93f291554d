"""Promises of :mod:`hub.gateway.arrivals`: a few come in at once, a fleet is spread evenly, and everybody gets in."""

import random
from collections import Counter

from hub.gateway.arrivals import AT_ONCE_S, LONGEST_S, PER_S, Arrivals

HANDFUL = int(PER_S * AT_ONCE_S)


def test_a_handful_comes_in_at_once() -> None:
    arrivals = Arrivals(0.0)

    assert [arrivals.ask(0.0) for _ in range(HANDFUL)] == [0.0] * HANDFUL


def test_the_next_ones_are_told_when_to_come_and_come_in_then() -> None:
    arrivals = Arrivals(0.0)
    for _ in range(HANDFUL):
        arrivals.ask(0.0)
    told = [arrivals.ask(0.0) for _ in range(400)]

    assert min(told) >= 1.0
    assert all(wait_s.is_integer() for wait_s in told)
    assert max(Counter(told).values()) <= 0.8 * PER_S + 1
    assert arrivals.ask(min(told)) == 0.0


def test_nobody_is_sent_away_for_longer_than_is_useful() -> None:
    arrivals = Arrivals(0.0)

    assert max(arrivals.ask(0.0) for _ in range(20_000)) == LONGEST_S


def storm(clients: int, fleet: int) -> tuple[list[float], int]:
    """When each of many clients got in that all come at once and do as they are told; and how often they asked."""
    chance = random.Random(1)
    arrivals = Arrivals(0.0)
    waiting = [(chance.random(), number) for number in range(clients)]
    entered, asked = [], 0
    while waiting:
        waiting.sort()
        now, number = waiting.pop(0)
        asked += 1
        if wait_s := arrivals.ask(now, fleet):
            waiting.append((now + wait_s + chance.random(), number))
        else:
            entered.append(now)
    return entered, asked


def test_a_fleet_that_comes_at_once_is_in_within_a_lease_and_evenly() -> None:
    entered, asked = storm(2_000, fleet=2_000)
    seconds = Counter(int(at) for at in entered)
    mean = len(entered) / (max(entered) - min(entered))

    assert max(entered) <= 30
    assert max(seconds.values()) <= 2 * mean
    assert asked <= 3 * 2_000

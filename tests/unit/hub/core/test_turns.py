"""How many requests at a time a server is given: found by trying, and given up when it makes one wait."""

from collections.abc import Callable

import pytest

from hub.core.turns import CLOUD_MOST, LOCAL_MOST, MOST_PATIENCE, PATIENCE, Turns, ended, first, refused
from protocol.model import EndpointKind, EndpointReport

OLLAMA = EndpointReport(id="o", kind=EndpointKind.OLLAMA, url="http://127.0.0.1:1", local=True)
LLAMA = EndpointReport(id="l", kind=EndpointKind.OPENAI, url="http://127.0.0.1:1", local=True, parallel=3)
CLOUD = EndpointReport(id="c", kind=EndpointKind.ANTHROPIC, url="https://a.invalid", local=False)
SERVICE_S = 10.0


def taking(slots: int) -> Callable[[int], float]:
    """Seconds that the last of so many requests waits at a server with so many slots."""
    return lambda crowd: SERVICE_S if crowd > slots else 0.0


def used(turns: Turns, endpoint: EndpointReport, waits: Callable[[int], float], attempts: int) -> tuple[Turns, int]:
    """What is known after so many attempts that take every turn, and how many of them waited at the server."""
    waited = 0
    for _ in range(attempts):
        queue_s = waits(turns.most)
        waited += queue_s > 0
        turns = ended(turns, endpoint, turns.most, queue_s=queue_s, model_s=SERVICE_S + queue_s)
    return turns, waited


@pytest.mark.parametrize("endpoint, most", [(OLLAMA, 1), (LLAMA, 3), (CLOUD, 16)])
def test_it_begins_with_what_the_server_says_or_what_is_usual(endpoint: EndpointReport, most: int) -> None:
    assert first(endpoint).most == most


@pytest.mark.parametrize("slots", [1, 2, 4, 8])
def test_the_slots_of_a_server_that_says_nothing_are_found(slots: int) -> None:
    turns, waited = used(first(OLLAMA), OLLAMA, taking(slots), 1_000)

    assert turns.proved == slots
    assert slots <= turns.most <= slots + 1
    assert waited <= 6  # each try that goes wrong puts off the next one


def test_one_more_is_tried_only_after_some_that_did_not_wait() -> None:
    turns, _ = used(first(OLLAMA), OLLAMA, taking(9), PATIENCE - 1)
    later, _ = used(turns, OLLAMA, taking(9), 1)

    assert (turns.most, later.most) == (1, 2)


def test_attempts_that_did_not_take_every_turn_prove_nothing_of_more() -> None:
    turns = Turns(4)
    for _ in range(100):
        turns = ended(turns, OLLAMA, 2, queue_s=0.0, model_s=SERVICE_S)

    assert (turns.most, turns.proved) == (4, 2)


def test_who_waits_alone_waits_behind_somebody_elses_work() -> None:
    assert ended(Turns(2), OLLAMA, 1, queue_s=60.0, model_s=70.0) == Turns(2)


@pytest.mark.parametrize("queue_s", [0.4, 2.0])
def test_a_little_wait_is_none(queue_s: float) -> None:
    turns = ended(Turns(2), OLLAMA, 2, queue_s=queue_s, model_s=queue_s + SERVICE_S)

    assert (turns.most, turns.proved) == (2, 2)


def test_a_server_that_tells_nothing_of_waits_stays_as_it_is_and_a_cloud_would_refuse() -> None:
    local, cloud = first(OLLAMA), first(CLOUD)
    for _ in range(5_000):
        local = ended(local, OLLAMA, local.most, queue_s=None, model_s=SERVICE_S)
        cloud = ended(cloud, CLOUD, cloud.most, queue_s=None, model_s=SERVICE_S)

    assert (local.most, cloud.most) == (1, CLOUD_MOST)


def test_nobody_is_given_more_than_it_says_or_than_makes_sense() -> None:
    assert used(first(LLAMA), LLAMA, taking(99), 500)[0].most == 3
    assert used(first(OLLAMA), OLLAMA, taking(999), 5_000)[0].most == LOCAL_MOST


def test_a_refusal_halves_and_the_next_try_comes_later() -> None:
    once = refused(Turns(16))
    often = once
    for _ in range(20):
        often = refused(often)

    assert (once.most, once.patience) == (8, 4 * PATIENCE)
    assert (often.most, often.proved) == (1, 1)
    assert often.patience <= MOST_PATIENCE


def test_a_server_that_became_larger_is_found_out_in_the_end() -> None:
    turns, _ = used(first(OLLAMA), OLLAMA, taking(1), 200)
    grown, _ = used(turns, OLLAMA, taking(4), 3_000)

    assert (turns.proved, grown.proved) == (1, 4)

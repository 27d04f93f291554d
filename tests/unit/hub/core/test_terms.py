"""The sum that decides: every term is seconds, and what people are shown adds up."""

import pytest

from hub.core.routing import Way
from hub.core.speeds import Demand
from hub.core.terms import WAIT_RISK, Rates, Terms
from protocol.model import Strategy

TERMS = Terms(1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)


def test_every_term_counts_once_and_waiting_a_little_more() -> None:
    assert TERMS.total_s == pytest.approx(1023 + (WAIT_RISK - 1))


def test_a_server_is_taken_for_its_part_and_a_slot_for_the_whole_attempt() -> None:
    assert TERMS.service_s == 4 + 8 + 16
    assert TERMS.attempt_s == TERMS.service_s + 64 + 128


def test_people_see_the_terms_that_are_not_nothing() -> None:
    assert Terms(0, 0, 0, 0.5, 1.0, price_s=3.0).shown == {
        "prefill_s": 0.5,
        "decode_s": 1.0,
        "price_s": 3.0,
        "total_s": 4.5,
    }
    assert Terms(0, 0, 0, 0, 0).in_words == "after 0.0 s"
    assert TERMS.in_words == (
        "after 221.0 s (wait 1.0, workspace 64.0, load 4.0, reading 8.0, writing 16.0, checks 128.0)"
    )


def test_without_experience_nothing_is_risky() -> None:
    way = Way(agent="a", strategy=Strategy.LOCAL_LLM)

    assert Rates().risk(Demand(1.0, 1.0), way, TERMS) == 0.0

import json
from typing import Any

import pytest

from hub.store.batches import facts_text
from hub.store.records import event
from protocol.model import FailureClass


@pytest.mark.parametrize(
    "facts",
    [
        {"title": "ünï", "n": 3, "cost_usd": 0.25, "verified": None},
        {"reason": "half a pair: \udcff"},
        {"ready_ms": 2**70},
        {"candidates": [{"a": ("b",)}]},
    ],
)
def test_facts_come_back_as_they_were(facts: dict[str, Any]) -> None:
    row = (1, 0, "task_queued", "t", None, None, facts_text(facts))

    assert event(row).facts == json.loads(json.dumps(facts))


def test_a_member_of_an_enumeration_is_its_word() -> None:
    assert facts_text({"failure": FailureClass.INFRA}) == '{"failure":"infra"}'


def test_numbers_that_are_none_are_read_where_an_older_hub_wrote_them() -> None:
    assert event((1, 0, "task_queued", "t", None, None, '{"a": NaN}')).facts["a"] != 0

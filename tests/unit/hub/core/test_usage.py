from typing import Any

from hub.core.usage import MOST_GROUPS, Used, grouped
from protocol.usage import UsageBy


def used(**given: Any) -> Used:
    usual = {
        "at_ms": 3_600_000,
        "model": "m",
        "submitter": "ann",
        "project": "",
        "labels": {},
        "attempts": 1,
        "input_tokens": 10,
        "output_tokens": 5,
        "cached_tokens": 2,
        "micro": 500_000,
        "ms": 1_500,
        "unpriced": 0,
    }
    return Used(**(usual | given))


def test_use_is_summed_by_name_and_step_and_the_most_expensive_comes_first() -> None:
    cheap, dear, unknown = used(), used(model="big", micro=2_000_000), used(model="own", micro=0, unpriced=1)
    groups = grouped([cheap, dear, unknown, used(at_ms=7_200_000), used(submitter="bob")], UsageBy.MODEL)

    assert [(one.name, one.attempts, one.cost_usd, one.unpriced) for one in groups] == [
        ("big", 1, 2.0, 0),
        ("m", 3, 1.5, 0),
        ("own", 1, 0.0, 1),
    ]
    assert (groups[1].input_tokens, groups[1].output_tokens, groups[1].cached_input_tokens) == (30, 15, 6)
    assert groups[1].seconds == 4.5
    assert groups[1].points == ((3_600, 1.0, 30), (7_200, 0.5, 15))


def test_an_attempt_with_several_labels_counts_under_each_and_one_without_under_none() -> None:
    groups = grouped([used(labels={"team": "core", "kind": "fix"}), used()], UsageBy.LABEL)

    assert [(one.name, one.attempts) for one in groups] == [("kind:fix", 1), ("team:core", 1)]
    assert [one.name for one in grouped([used()], UsageBy.SUBMITTER)] == ["ann"]
    assert [one.name for one in grouped([used(project="web")], UsageBy.PROJECT)] == ["web"]


def test_only_so_many_names_are_told() -> None:
    assert len(grouped([used(labels={"n": str(n)}) for n in range(MOST_GROUPS + 9)], UsageBy.LABEL)) == MOST_GROUPS

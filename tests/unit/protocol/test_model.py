"""The promises of the nouns: costs that add up honestly, values that stay what they were, defaults of the contract."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import model
from protocol.checks import CheckJsonSchema, CheckTestPasses, digest_of
from protocol.model import FINAL_STATES, PRIORITY_ORDER, Budget, Priority, TaskSpec, TaskState, Usage

USAGES = st.builds(
    Usage,
    model=st.sampled_from(["none", "qwen3:8b", "claude"]),
    endpoint=st.sampled_from(["", "o1"]),
    input_tokens=st.integers(0, 1_000),
    output_tokens=st.integers(0, 1_000),
    cached_input_tokens=st.integers(0, 1_000),
    cost_usd=st.none() | st.sampled_from([0.0, 0.25, 1.5]),
    seconds=st.sampled_from([0.0, 0.5, 2.0]),
)


def test_two_usages_add_up() -> None:
    one = Usage(
        model="a", endpoint="x", input_tokens=1, output_tokens=2, cached_input_tokens=3, cost_usd=0.5, seconds=1.0
    )
    other = Usage(
        model="b", endpoint="y", input_tokens=10, output_tokens=20, cached_input_tokens=30, cost_usd=0.25, seconds=2.0
    )

    assert one.plus(other) == Usage(
        model="b", endpoint="y", input_tokens=11, output_tokens=22, cached_input_tokens=33, cost_usd=0.75, seconds=3.0
    )


def test_work_without_a_model_does_not_hide_the_model_before_it() -> None:
    assert Usage(model="a", endpoint="x").plus(Usage(seconds=1.0)) == Usage(model="a", endpoint="x", seconds=1.0)


@given(USAGES, USAGES)
def test_a_cost_that_is_unknown_stays_unknown(one: Usage, other: Usage) -> None:
    total = one.plus(other).cost_usd

    assert (total is None) == (one.cost_usd is None or other.cost_usd is None)


@given(USAGES)
def test_nothing_adds_nothing(usage: Usage) -> None:
    assert usage.plus(Usage()) == usage


@given(USAGES, USAGES, USAGES)
def test_the_sum_does_not_depend_on_the_grouping(a: Usage, b: Usage, c: Usage) -> None:
    assert a.plus(b).plus(c) == a.plus(b.plus(c))


def test_lanes_are_ordered_from_the_most_urgent() -> None:
    assert sorted(Priority, key=PRIORITY_ORDER.__getitem__) == ["urgent", "high", "normal", "low"]


def test_the_final_states_are_these() -> None:
    assert {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.DEAD} == FINAL_STATES


def test_the_defaults_of_a_spec_are_those_of_the_contract() -> None:
    spec = TaskSpec(title="x")

    assert (spec.executor, spec.priority, spec.complexity, spec.max_retries) == ("auto", "normal", None, 3)
    assert spec.budget == Budget(tokens=200_000, usd=None, seconds=900.0, fix_attempts=2)
    assert msgspec.to_builtins(spec) == {"title": "x"}


@pytest.mark.parametrize(
    "kind",
    [
        thing
        for thing in vars(model).values()
        if isinstance(thing, type) and issubclass(thing, msgspec.Struct) and thing is not msgspec.Struct
    ],
)
def test_every_noun_is_a_value_that_nobody_can_change(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.frozen


def test_labels_of_two_specs_are_not_the_same_dictionary() -> None:
    assert TaskSpec().labels is not TaskSpec().labels


def test_equal_checks_have_equal_digests_and_nothing_else_has() -> None:
    one = CheckJsonSchema(path="a.json", schema={"a": 1, "b": 2})
    same = CheckJsonSchema(path="a.json", schema={"b": 2, "a": 1})
    test = CheckTestPasses(command="pytest")

    assert digest_of(()) == ""
    assert digest_of((one, test)) == digest_of((same, test))
    assert len({digest_of(checks) for checks in [(one,), (test,), (one, test), (test, one)]}) == 4
    assert digest_of((test,)) == "22c24b5d4f89728336584ba7499d4355f8051b0ac32801f8267c68963e9542b7"

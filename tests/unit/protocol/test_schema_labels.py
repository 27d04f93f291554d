"""Labels are looked at with the one look that tells of most batches that nothing is wrong with them."""

import pytest

from protocol.model import TaskSpec
from protocol.schema import read_plain, read_spec


@pytest.mark.parametrize("labels", [{"a": "b"}, {"a": "\u00fc"}, {f"l{n}": "x" * 200 for n in range(50)}])
def test_labels_make_no_task_less_plain(labels: dict[str, str]) -> None:
    body = {"title": "t", "labels": labels}
    assert read_plain([body]) == [TaskSpec(title="t", labels=labels)]
    assert read_spec(body) == (TaskSpec(title="t", labels=labels), [])


@pytest.mark.parametrize("labels", [{"a b": ""}, {"a": "x" * 201}, {"a": "\ud800"}, {f"l{n}": "" for n in range(51)}])
def test_a_task_whose_labels_are_wrong_is_not_plain(labels: dict[str, str]) -> None:
    assert read_plain([{"title": "t", "labels": labels}]) is None

"""How many tasks each choice of a filter would show."""

from hub.core import facets
from hub.core.facets import MOST_CHOICES, Alike, count

GROUPS = (
    Alike("queued", "normal", "trivial", "", "", 5),
    Alike("running", "normal", "complex", "One", "big", 2),
    Alike("failed", "urgent", "complex", "Two", "big", 3),
)


def test_without_a_filter_everything_is_counted_and_what_a_task_lacks_is_no_choice() -> None:
    found = count(GROUPS, {})

    assert found.total == 10
    assert found.facets == {
        "state": {"queued": 5, "failed": 3, "running": 2},
        "priority": {"normal": 7, "urgent": 3},
        "tier": {"complex": 5, "trivial": 5},
        "agent": {"Two": 3, "One": 2},
        "model": {"big": 5},
    }


def test_a_choice_counts_what_fits_all_other_filters() -> None:
    found = count(GROUPS, {"state": frozenset({"failed"}), "model": frozenset({"big"}), "tier": frozenset()})

    assert found.total == 3
    assert found.facets["state"] == {"failed": 3, "running": 2}
    assert found.facets["priority"] == {"urgent": 3}
    assert found.facets["model"] == {"big": 3}
    assert count(GROUPS, {"state": frozenset({"dead"})}).total == 0


def test_of_many_choices_the_most_frequent_are_told() -> None:
    many = [Alike("queued", "low", "", f"a{number}", "", number + 1) for number in range(MOST_CHOICES + 50)]

    told = count(many, {}).facets["agent"]
    assert len(told) == MOST_CHOICES
    assert next(iter(told)) == f"a{MOST_CHOICES + 49}"


def test_labels_are_counted_each_by_itself() -> None:
    assert facets.labels([({"a": "x", "b": "y"}, 2), ({"a": "x"}, 3)]) == {"a:x": 5, "b:y": 2}

"""The promise of bad input holds for shapes that no task spec has, too: one answer that names every problem."""

from typing import Annotated, Any

import pytest
from msgspec import Meta, Struct

from protocol.errors import BadInput
from protocol.schema import read


class Odd(Struct):
    """Shapes that no task spec has."""

    either: int | str = 0
    count: Annotated[int, Meta(ge=0)] = 0
    told: Annotated[str, Meta(description="a field that explains itself")] = ""
    anything: Any = None


def test_shapes_beyond_a_spec_are_read_too() -> None:
    assert read({"either": "x", "count": 1, "anything": [1]}, Odd, "odd") == Odd(either="x", count=1, anything=[1])

    with pytest.raises(BadInput) as caught:
        read({"either": [], "count": "x", "told": 1, "anything": {}}, Odd, "odd")
    assert str(caught.value) == (
        "odd has 2 problems: count: expected a whole number, found 'x'; told: expected a string, found 1"
    )


@pytest.mark.parametrize("value", [{"either": []}, {"count": -1}])
def test_what_the_walk_cannot_name_is_told_as_it_was_found(value: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="odd has 1 problem: "):
        read(value, Odd, "odd")

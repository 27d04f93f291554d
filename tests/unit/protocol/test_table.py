"""The promises of state tables."""

from enum import StrEnum

import pytest

from protocol.errors import IllegalTransition
from protocol.table import after, allowed, mermaid


class Door(StrEnum):
    OPEN = "open"
    SHUT = "shut"
    GONE = "gone"


EDGES = {
    (Door.OPEN, "shut"): Door.SHUT,
    (Door.OPEN, "slam"): Door.SHUT,
    (Door.SHUT, "open"): Door.OPEN,
    (Door.SHUT, "burn"): Door.GONE,
}


def test_an_event_leads_where_the_table_says() -> None:
    assert after(EDGES, "door", Door.SHUT, "open") is Door.OPEN


def test_an_event_without_an_edge_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(IllegalTransition) as caught:
        after(EDGES, "door 7", Door.OPEN, "burn")

    assert str(caught.value) == "door 7: 'burn' is not allowed in state open; allowed: shut, slam"


def test_a_final_state_allows_nothing_and_says_so() -> None:
    with pytest.raises(IllegalTransition) as caught:
        after(EDGES, "door", Door.GONE, "open")

    assert str(caught.value) == "door: 'open' is not allowed in state gone; allowed: none, it is final"
    assert allowed(EDGES, Door.GONE) == ()


def test_the_diagram_shows_start_arrows_and_ends() -> None:
    assert mermaid(EDGES) == (
        "stateDiagram-v2\n"
        "    [*] --> open\n"
        "    open --> shut: shut, slam\n"
        "    shut --> open: open\n"
        "    shut --> gone: burn\n"
        "    gone --> [*]\n"
    )


def test_an_empty_table_is_an_empty_diagram() -> None:
    assert mermaid({}) == "stateDiagram-v2\n"

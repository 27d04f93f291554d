"""State machines as data: a table ``{(state, event): state}``, and the two things that are done with one.

The tables live with their owners (``hub/core/task.py``, ``hub/core/agent.py``, ``sidecar/core/attempt.py``,
``sidecar/lifecycle.py``); the diagrams in the documentation are drawn from them.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from protocol.errors import IllegalTransition

State = TypeVar("State", bound=StrEnum)


def after(edges: Mapping[tuple[State, str], State], machine: str, state: State, event: str) -> State:
    """The state that ``event`` leads to from ``state``.

    Args:
        edges: the table.
        machine: what the error calls it (``task 01h...``).
        state, event: where it stands, and what happens.

    Raises:
        IllegalTransition: the table has no such edge; the error lists what it would have allowed.
    """
    try:
        return edges[state, event]
    except KeyError:
        raise IllegalTransition(machine, state.value, event, allowed(edges, state)) from None


def allowed(edges: Mapping[tuple[State, str], State], state: State) -> tuple[str, ...]:
    """Events that ``state`` has an edge for, in the order of the table; none: it is final."""
    return tuple(event for known, event in edges if known is state)


def mermaid(edges: Mapping[tuple[State, str], State]) -> str:
    """The table as a Mermaid state diagram.

    The first state of the table is the start, states without a way out are ends, and events that lead the same way
    share one arrow.
    """
    arrows: dict[tuple[State, State], list[str]] = {}
    for (state, event), target in edges.items():
        arrows.setdefault((state, target), []).append(event)
    leaving = {state for state, _ in edges}
    finals = dict.fromkeys(target for target in edges.values() if target not in leaving)
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {state.value}" for state, _ in list(edges)[:1]]
    lines += [f"    {a.value} --> {b.value}: {', '.join(events)}" for (a, b), events in arrows.items()]
    lines += [f"    {state.value} --> [*]" for state in finals]
    return "\n".join(lines) + "\n"

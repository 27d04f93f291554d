"""How many requests at a time an LLM server takes: learnt, as hardly any server says it.

A server that gets more than it answers at once lets the rest wait in silence, out of the hub's sight, or refuses them.
So the number begins low, grows by one after some attempts in a row that did not wait although every turn was taken,
falls to what was seen to work when one did wait, and to half when the server refuses; after each fall the next try
comes later (additive increase, multiplicative decrease). Pure. Kept in ``hub/core/speeds.py``, asked by
``hub/core/board.py``.
"""

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from protocol.model import EndpointReport

CLOUD_FIRST, CLOUD_MOST = 16, 64
LOCAL_FIRST, LOCAL_MOST = 1, 32
"""Requests at a time where the endpoint does not say: Ollama's own default is one a model."""
PATIENCE: Final = 4
"""Attempts without a wait before one more is tried, at first."""
MOST_PATIENCE: Final = 256
IMPATIENCE: Final = 4
"""By how much longer the next try is put off when one went wrong."""
LEAST_WAIT_S: Final = 0.5
WAIT_SHARE: Final = 0.25
"""What counts as a wait: so many seconds, and such a share of the time that the answers took."""


class Turns(Struct, frozen=True):
    """What is known of one server.

    Attributes:
        most: requests that it is given at a time.
        told: what it says itself; 0: nothing. It is never given more.
        proved: so many were answered at a time and none waited.
        calm: attempts in a row that did not wait although all turns were taken.
        patience: how many of them it takes before one more is tried.
    """

    most: int
    told: int = 0
    proved: int = 1
    calm: int = 0
    patience: int = PATIENCE


def first(endpoint: EndpointReport) -> Turns:
    """Before anything was seen there."""
    if endpoint.parallel:
        return Turns(endpoint.parallel, told=endpoint.parallel, proved=endpoint.parallel)
    return Turns(LOCAL_FIRST if endpoint.local else CLOUD_FIRST)


def ended(turns: Turns, endpoint: EndpointReport, crowd: int, *, queue_s: float | None, model_s: float) -> Turns:
    """An attempt has ended that was answered there.

    Args:
        crowd: attempts that the server had when this one began, with it.
        queue_s: seconds that its requests waited for a turn at the server; ``None``: nobody knows. A cloud would have
            refused them.
        model_s: seconds that all its requests took.
    """
    if queue_s is None and endpoint.local:
        return turns
    waited_s = queue_s or 0.0
    if waited_s > max(LEAST_WAIT_S, WAIT_SHARE * (model_s - waited_s)):
        return turns if crowd <= 1 else _cut(turns, crowd - 1)  # alone it waited behind somebody else's work
    turns = replace(turns, proved=max(turns.proved, min(crowd, turns.most)))
    if crowd < turns.most:
        return turns
    limit = turns.told or (LOCAL_MOST if endpoint.local else CLOUD_MOST)
    if turns.calm + 1 < turns.patience or turns.most >= limit:
        return replace(turns, calm=min(turns.calm + 1, turns.patience))
    return replace(turns, most=turns.most + 1, calm=0)


def refused(turns: Turns) -> Turns:
    """The server would not take a request."""
    return _cut(turns, turns.most // 2)


def _cut(turns: Turns, most: int) -> Turns:
    most = max(1, min(turns.most, most))
    if most == turns.most:
        return replace(turns, calm=0)
    patience = min(MOST_PATIENCE, turns.patience * IMPATIENCE)
    return Turns(most, turns.told, min(turns.proved, most), 0, patience)

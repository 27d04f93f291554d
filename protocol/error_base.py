"""What every error of AgentCom is made of. Import it from ``protocol/errors.py``, which draws the whole tree."""

from typing import ClassVar

from msgspec import Struct


class Problem(Struct, frozen=True):
    """One thing that is wrong with an input: where (``a.b[2]``, empty for the whole) and what, with the way out."""

    path: str
    problem: str


class AgentComError(Exception):
    """Base of every error that AgentCom raises on purpose."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

"""Results as the store keeps them: fields that hold their usual values are left out, and come back when they are read.

What people and peers get has all of its fields (``protocol/model.py``); read a kept result as that, never as one of
these. Caller: ``protocol/codec.py``.
"""

from protocol.model import Finding, Iteration, TaskResult, Usage


class LeanFinding(Finding, frozen=True, kw_only=True, omit_defaults=True):
    """A finding."""


class LeanUsage(Usage, frozen=True, kw_only=True, omit_defaults=True):
    """What work cost."""


class LeanIteration(Iteration, frozen=True, kw_only=True, omit_defaults=True):
    """One round."""

    findings: tuple[LeanFinding, ...] = ()
    usage: LeanUsage = LeanUsage()


class LeanResult(TaskResult, frozen=True, kw_only=True, omit_defaults=True):
    """What an attempt delivers."""

    report: tuple[LeanFinding, ...] = ()
    iterations: tuple[LeanIteration, ...] = ()
    usage: LeanUsage = LeanUsage()

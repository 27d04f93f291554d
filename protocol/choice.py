"""How a task climbs from one model to a stronger one, and what was learnt about models: as stored, sent and shown.

What decides is ``hub/core/ladder.py`` (the climbing) and ``hub/core/outcomes.py`` (the learning).
"""

from enum import StrEnum
from typing import Final

from msgspec import Struct

from protocol.bounds import Count, Few, Measure, Word

SECONDS_PER_USD: Final = 360.0
"""How long one would wait to save a dollar, if nobody says otherwise: an hour is worth ten dollars."""


class Escalation(StrEnum):
    """How far a task may climb while its checks keep failing; each allows what stands before it."""

    OFF = "off"  # it fails
    EFFORT = "effort"  # the same model, which tries harder
    MODEL = "model"  # stronger models of the same tier
    TIER = "tier"  # the models of the next tier


class CleanRoom(StrEnum):
    """Whether another machine has to run the checks on what was pushed before they count."""

    AUTO = "auto"  # where work was pushed to a place that others reach, and another machine is there
    ALWAYS = "always"  # it waits for another machine
    NEVER = "never"


class Effort(StrEnum):
    """How hard a model is to try; what that means is for each endpoint to say (``sidecar/llm``)."""

    NORMAL = "normal"
    HIGH = "high"


class LearningMode(StrEnum):
    """What becomes of what was learnt."""

    OFF = "off"  # nothing is learnt
    SHADOW = "shadow"  # it is kept and shown beside every decision
    ON = "on"  # it decides which model a task begins with


class Rung(Struct, frozen=True, kw_only=True):
    """Where an attempt stands on the ladder: after ``number`` climbs, with a ``model`` of ``tier``."""

    number: Count
    tier: Word
    model: Word
    effort: Effort = Effort.NORMAL


class Estimate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is expected of a model for a class of tasks.

    ``success`` is the chance that its work passes the checks; ``seconds`` and ``usd`` are what it costs until there is
    a verified result, with all that follows on the ladder if it fails.
    """

    model: Word
    strategy: Word
    success: Measure
    seconds: Measure
    usd: Measure
    outcomes: Measure = 0.0
    """How many outcomes that rests on; the older ones count less."""


class Choice(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was learnt from earlier tasks, and whether it decided (``on``) or only looked on (``shadow``)."""

    mode: Word
    topic: Word
    """The class of tasks, as ``hub/core/outcomes.py`` names it."""
    model: Word
    """The one that is expected to cost least until a result is verified."""
    estimates: Few[Estimate] = ()
    explores: bool = False
    """It is tried because too little is known of it."""

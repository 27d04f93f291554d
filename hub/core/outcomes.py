"""What verified results teach: how likely each model passes the checks of a class of tasks, and what a result costs.

A **topic** is the class of tasks that is learnt about: ``executor/tier/language/kind``, where the language is told by
the names of the files that the task points at and the kind by its label ``kind`` (``agent/standard/python/bugfix``).
For each topic, model and stage (the first try, the same model with more effort, a model climbed to) the outcomes form a
Beta distribution; old ones fade, so that a model that has become better is found out. Before anything is known the
model's record in all topics counts a little, and before that a guess by tier and strategy.

Pure: outcomes and a time go in, estimates come out. ``hub/services/learning.py`` feeds it and keeps the records in the
store; the board adds :func:`risk_s` to what a way costs; ``hub/core/ladder.py`` says what follows a failure.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from protocol.choice import SECONDS_PER_USD, Effort, Rung
from protocol.model import Strategy, TaskSpec, Tier

KEEP: Final = 0.98
"""What one more outcome leaves of the weight of those before it: about the last fifty count."""
HALF_LIFE_MS: Final = 30 * 86_400_000
"""After so long an outcome counts half."""
GUESS_WEIGHT: Final = 2.0
"""Outcomes that the guess before all outcomes counts as."""
BORROWED_WEIGHT: Final = 4.0
"""Outcomes that a model's record in all topics counts as in one of them."""
MAX_RECORDS: Final = 10_000
"""Records that are kept; the one that was added to longest ago goes first."""

GUESSES: Final[dict[tuple[Strategy, Tier], float]] = {
    (Strategy.LOCAL_LLM, Tier.TRIVIAL): 0.85,
    (Strategy.LOCAL_LLM, Tier.STANDARD): 0.65,
    (Strategy.LOCAL_LLM, Tier.COMPLEX): 0.35,
    (Strategy.CLOUD_LLM, Tier.TRIVIAL): 0.97,
    (Strategy.CLOUD_LLM, Tier.STANDARD): 0.92,
    (Strategy.CLOUD_LLM, Tier.COMPLEX): 0.85,
}
"""Chance of passing before anything was seen."""
GUESSED_SECONDS, GUESSED_USD = 60.0, 0.02
LEAST_SUCCESS: Final = 0.01
"""Ways that hardly ever succeed cost a hundred times their attempt, not for ever more."""

KIND_LABEL: Final = "kind"
_KIND: Final = re.compile(r"[a-z0-9-]{1,24}")
LANGUAGES: Final[dict[str, str]] = {
    suffix: language
    for language, suffixes in {
        "python": "py pyi",
        "javascript": "js jsx mjs cjs",
        "typescript": "ts tsx",
        "go": "go",
        "rust": "rs",
        "java": "java kt kts scala",
        "c": "c h cc cpp cxx hpp",
        "csharp": "cs",
        "ruby": "rb",
        "php": "php",
        "shell": "sh bash",
        "sql": "sql",
        "web": "html css",
        "text": "md rst txt",
        "settings": "toml yaml yml json ini",
    }.items()
    for suffix in suffixes.split()
}

FIRST, HARDER, CLIMBED = "first", "harder", "climbed"
"""Stages. They are told apart because only the tasks that others have failed at are climbed with."""


def topic_of(spec: TaskSpec, executor: str, tier: Tier) -> str:
    """The class of tasks that ``spec`` belongs to."""
    kind = spec.labels.get(KIND_LABEL, "")
    return "/".join((executor, tier, _language(spec), kind if _KIND.fullmatch(kind) else "")).rstrip("/")


def _language(spec: TaskSpec) -> str:
    """The language of most of the files that the task names; ``any`` if none of them tells."""
    counts: dict[str, int] = {}
    for name in (*spec.context.files, spec.save_as):
        if language := LANGUAGES.get(name.rpartition(".")[2].lower() if "." in name else ""):
            counts[language] = counts.get(language, 0) + 1
    return max(counts, key=lambda language: (counts[language], language), default="any")


def stage_of(rung: Rung | None) -> str:
    """The stage of an attempt on this rung."""
    if rung is None:
        return FIRST
    return HARDER if rung.effort is Effort.HIGH else CLIMBED


class Outcome(Struct, frozen=True, kw_only=True):
    """How one attempt ended whose work was checked."""

    passed: bool
    seconds: float
    usd: float
    tokens: int


class Record(Struct, frozen=True, kw_only=True):
    """All outcomes of one model in one topic and stage: faded counts, and means of what an attempt costs."""

    topic: str
    model: str
    stage: str
    passes: float = 0.0
    fails: float = 0.0
    seconds: float = 0.0
    usd: float = 0.0
    tokens: float = 0.0
    at_ms: int = 0

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is about."""
        return self.topic, self.model, self.stage

    @property
    def weight(self) -> float:
        """Outcomes that it counts as, at ``at_ms``."""
        return self.passes + self.fails

    def faded(self, at_ms: int) -> "Record":
        """The same record at a later time."""
        left = 0.5 ** (max(0, at_ms - self.at_ms) / HALF_LIFE_MS)
        return _changed(self, passes=self.passes * left, fails=self.fails * left, at_ms=max(at_ms, self.at_ms))

    def plus(self, outcome: Outcome, at_ms: int) -> "Record":
        """The record with one more outcome."""
        was = self.faded(at_ms)
        passes, fails = KEEP * was.passes + outcome.passed, KEEP * was.fails + (not outcome.passed)
        share = 1.0 / (passes + fails)
        return _changed(
            was,
            passes=passes,
            fails=fails,
            seconds=was.seconds + share * (outcome.seconds - was.seconds),
            usd=was.usd + share * (outcome.usd - was.usd),
            tokens=was.tokens + share * (outcome.tokens - was.tokens),
        )


def _changed(record: Record, **values: float) -> Record:
    known = {name: getattr(record, name) for name in Record.__struct_fields__}
    return Record(**{**known, **values})


class Try(Struct, frozen=True, kw_only=True):
    """One attempt that may be made: with which model, at which stage."""

    model: str
    strategy: Strategy
    tier: Tier
    stage: str = FIRST


class Odds(Struct, frozen=True, kw_only=True):
    """What is expected of one try. ``spread`` is the standard deviation of ``success``."""

    success: float
    spread: float
    seconds: float
    usd: float
    weight: float

    def cost_s(self, usd_s: float = SECONDS_PER_USD) -> float:
        """Time and money in seconds."""
        return self.seconds + usd_s * self.usd


class ToResult(Struct, frozen=True, kw_only=True):
    """What several tries, one after the other until one passes, are expected to cost together."""

    success: float
    seconds: float
    usd: float

    def cost_s(self, usd_s: float = SECONDS_PER_USD) -> float:
        """Time and money for each verified result, in seconds."""
        return (self.seconds + usd_s * self.usd) / max(self.success, LEAST_SUCCESS)


class Outcomes:
    """All records; what they say now.

    Attributes:
        generation: grows with every outcome, so that what was worked out may be kept until then.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._records: dict[tuple[str, str, str], Record] = {}
        self._topics: dict[str, dict[tuple[str, str], Record]] = {}
        self._everywhere: dict[tuple[str, str], tuple[float, float]] = {}
        self.generation = 0
        for record in records:
            self.put(record)

    def put(self, record: Record) -> None:
        """This is what is known by now."""
        was = self._records.get(record.key)
        passes, fails = self._everywhere.get(record.key[1:], (0.0, 0.0))
        if was is not None:
            passes, fails = passes - was.passes, fails - was.fails
        self._everywhere[record.key[1:]] = max(0.0, passes + record.passes), max(0.0, fails + record.fails)
        self._records[record.key] = record
        self._topics.setdefault(record.topic, {})[record.key[1:]] = record
        self.generation += 1
        if len(self._records) > MAX_RECORDS:
            self._forget(min(self._records.values(), key=lambda each: each.at_ms))

    def _forget(self, record: Record) -> None:
        del self._records[record.key], self._topics[record.topic][record.key[1:]]
        if not self._topics[record.topic]:
            del self._topics[record.topic]
        passes, fails = self._everywhere[record.key[1:]]
        self._everywhere[record.key[1:]] = max(0.0, passes - record.passes), max(0.0, fails - record.fails)

    def record(self, topic: str, model: str, stage: str) -> Record:
        """What is known of this; an empty record if nothing is."""
        return self._records.get((topic, model, stage)) or Record(topic=topic, model=model, stage=stage)

    def odds(self, topic: str, one: Try, now_ms: int) -> Odds:
        """What to expect of a try."""
        known = self.record(topic, one.model, one.stage)
        now = known.faded(now_ms)
        passes, fails = self._everywhere.get((one.model, one.stage), (0.0, 0.0))
        passes, fails = max(0.0, passes - known.passes), max(0.0, fails - known.fails)  # in the other topics
        if one.stage == FIRST:  # what it passes after others have failed it would have passed at first
            climbed = self.record(topic, one.model, CLIMBED).faded(now_ms)
            passes, fails = passes + climbed.passes, fails + climbed.fails
        guess = GUESSES.get((one.strategy, one.tier), 1.0)
        if one.stage != FIRST:  # who fails at first seldom does better with what others have failed
            first = self.record(topic, one.model, FIRST).faded(now_ms)
            guess = min(guess, (first.passes + GUESS_WEIGHT * guess) / (first.weight + GUESS_WEIGHT))
        mean = (passes + GUESS_WEIGHT * guess) / (passes + fails + GUESS_WEIGHT)
        weight = GUESS_WEIGHT + min(BORROWED_WEIGHT, passes + fails)
        a, b = now.passes + weight * mean, now.fails + weight * (1.0 - mean)
        success = a / (a + b)
        seconds, usd = self._takes(topic, one)
        return Odds(
            success=success,
            spread=(success * (1.0 - success) / (a + b + 1.0)) ** 0.5,
            seconds=seconds,
            usd=usd,
            weight=now.weight,
        )

    def _takes(self, topic: str, one: Try) -> tuple[float, float]:
        """Seconds and money of a try: as seen, else as at another stage; the time else as with other models."""
        here = self._topics.get(topic, {})
        stages = (one.stage, FIRST, CLIMBED, HARDER)
        known = next((found for stage in stages if (found := here.get((one.model, stage))) and found.weight), None)
        if known is not None:
            return known.seconds, known.usd
        usd = GUESSED_USD if one.strategy is Strategy.CLOUD_LLM else 0.0
        weight = sum(each.weight for each in here.values())
        if not weight:
            return GUESSED_SECONDS, usd
        return sum(each.weight * each.seconds for each in here.values()) / weight, usd

    def to_result(self, topic: str, tries: Sequence[Try], now_ms: int) -> ToResult:
        """What these tries cost together: each is made only if all before it have failed."""
        left, seconds, usd = 1.0, 0.0, 0.0
        for one in tries:
            odds = self.odds(topic, one, now_ms)
            seconds += left * odds.seconds
            usd += left * odds.usd
            left *= 1.0 - odds.success
        return ToResult(success=1.0 - left, seconds=seconds, usd=usd)


def risk_s(own_s: float, success: float, rest: ToResult, usd_s: float = SECONDS_PER_USD) -> float:
    """What a try costs beyond ``own_s``, its own time and money, in seconds: what is expected to follow if it fails.

    A ladder that may end without a result is climbed as many times as it takes to get one.

    Args:
        own_s: of this one attempt.
        success: the chance that it passes.
        rest: the tries that follow if it does not.
        usd_s: seconds that a dollar counts as.
    """
    missed = 1.0 - success
    follow_s = missed * (rest.seconds + usd_s * rest.usd)
    return (own_s + follow_s) / max(1.0 - missed * (1.0 - rest.success), LEAST_SUCCESS) - own_s

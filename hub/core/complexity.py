"""How hard a task looks, from words alone: no model is asked.

The heuristic always runs, also when the submitter has named a tier, so that disagreement can be counted. It never says
``trivial`` without a positive signal: a wrong ``trivial`` costs a failed attempt, a wrong ``standard`` only time.
"""

import re
from functools import lru_cache
from typing import Final

from protocol.model import TaskSpec, Tier, TierDecision

COMPLEX_WORDS: Final = frozenset(
    """architecture architect concurrency concurrent deadlock debug design distributed investigate migrate migration
    optimise optimize performance protocol race redesign refactor rewrite security vulnerability""".split()
)
TRIVIAL_WORDS: Final = frozenset(
    "bump capitalise capitalize delete format indent lint list move print remove rename sort typo whitespace".split()
)
_WORDS: Final = re.compile(r"[a-z][a-z-]+").findall
SHORT_CHARS: Final = 200
"""Texts up to here are remembered: of tasks that come by the hundred many are worded alike."""
LONG_WORDS: Final = 200
SHORT_WORDS: Final = 25
MANY_FILES: Final = 5
MANY_CHECKS: Final = 4


def infer(spec: TaskSpec) -> TierDecision:
    """The tier that ``spec`` should be treated as, and why.

    Confidence is from 0.5 (a guess) to 0.95; that of the effective tier is 1.0 if the submitter has named it.
    """
    text = f"{spec.title} {spec.prompt} {' '.join(spec.success_criteria)}"
    looks = _short_looks if len(text) <= SHORT_CHARS else _looks
    is_command_only = bool(spec.command) and not spec.prompt
    return looks(text, len(spec.context.files), len(spec.verification), spec.complexity, is_command_only)


def _looks(text: str, files: int, checks: int, explicit: Tier | None, is_command_only: bool) -> TierDecision:  # noqa: FBT001 - one of what it depends on
    words = _WORDS(text.lower())
    signals: list[str] = []
    score = 0
    if hard := sorted(COMPLEX_WORDS.intersection(words)):
        score += 2
        signals.append(f"complex words: {', '.join(hard[:5])}")
    if easy := sorted(TRIVIAL_WORDS.intersection(words)):
        score -= 2
        signals.append(f"trivial words: {', '.join(easy[:5])}")
    if len(words) > LONG_WORDS:
        score += 2
        signals.append(f"{len(words)} words, more than {LONG_WORDS}")
    if files >= MANY_FILES:
        score += 1
        signals.append(f"{files} files")
    if checks >= MANY_CHECKS:
        score += 1
        signals.append(f"{checks} checks")
    if is_command_only:
        score -= 3
        signals.append("a command and no prompt")
    inferred = _tier(score, is_easy=bool(easy) or is_command_only, words=len(words))
    if not signals:
        signals.append("no signal either way")
    confidence = round(min(0.95, 0.5 + 0.15 * abs(score)), 2)
    return _decision(explicit, inferred, confidence, tuple(signals))


@lru_cache(1_024)  # few decisions fit nearly all texts, and what they have in common is worked out once for each
def _decision(explicit: Tier | None, inferred: Tier, confidence: float, signals: tuple[str, ...]) -> TierDecision:
    return TierDecision(
        explicit=explicit,
        inferred=inferred,
        effective=explicit or inferred,
        confidence=1.0 if explicit else confidence,
        signals=signals,
        inferred_confidence=confidence,
    )


_short_looks: Final = lru_cache(1_024)(_looks)


def _tier(score: int, *, is_easy: bool, words: int) -> Tier:
    if score >= 2:  # noqa: PLR2004 - one strong signal or two weak ones
        return Tier.COMPLEX
    if is_easy and score <= -2 and words <= SHORT_WORDS:  # noqa: PLR2004 - nothing speaks against it
        return Tier.TRIVIAL
    return Tier.STANDARD

"""The promises of the tier: words decide, the submitter overrules, and nothing is trivial without a positive signal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.core.complexity import COMPLEX_WORDS, LONG_WORDS, SHORT_CHARS, SHORT_WORDS, TRIVIAL_WORDS, infer
from protocol.checks import CheckGitClean
from protocol.model import Context, TaskSpec, Tier

WORDS = st.sampled_from(
    [*sorted(COMPLEX_WORDS)[:6], *sorted(TRIVIAL_WORDS)[:6], "the", "parser", "please", "adds", "x"]
)
TEXTS = st.lists(WORDS, max_size=60).map(" ".join) | st.text(max_size=40)
SPECS = st.builds(
    TaskSpec,
    title=TEXTS,
    prompt=TEXTS,
    command=st.sampled_from(["", "make"]),
    context=st.builds(Context, files=st.lists(st.just("a.py"), max_size=8).map(tuple)),
    verification=st.lists(st.just(CheckGitClean()), max_size=6).map(tuple),
    success_criteria=st.lists(TEXTS, max_size=2).map(tuple),
    complexity=st.none() | st.sampled_from(Tier),
)


@pytest.mark.parametrize(
    "spec, tier, signals",
    [
        (TaskSpec(title="x"), Tier.STANDARD, ("no signal either way",)),
        (TaskSpec(command="true"), Tier.TRIVIAL, ("a command and no prompt",)),
        (TaskSpec(title="Rename foo to bar"), Tier.TRIVIAL, ("trivial words: rename",)),
        (TaskSpec(title="Fix the race"), Tier.COMPLEX, ("complex words: race",)),
        (
            TaskSpec(title="Rename the class and redesign it"),
            Tier.STANDARD,
            ("complex words: redesign", "trivial words: rename"),
        ),
        (TaskSpec(prompt="word " * (LONG_WORDS + 1)), Tier.COMPLEX, ("201 words, more than 200",)),
        (TaskSpec(title="x", context=Context(files=("a",) * 5)), Tier.STANDARD, ("5 files",)),
        (TaskSpec(title="x", verification=(CheckGitClean(),) * 4), Tier.STANDARD, ("4 checks",)),
        (
            TaskSpec(title="x", verification=(CheckGitClean(),) * 4, context=Context(files=("a",) * 5)),
            Tier.COMPLEX,
            ("5 files", "4 checks"),
        ),
        (TaskSpec(title="format " + "word " * SHORT_WORDS), Tier.STANDARD, ("trivial words: format",)),
        (TaskSpec(title="x", success_criteria=("no deadlock",)), Tier.COMPLEX, ("complex words: deadlock",)),
        (TaskSpec(command="make", prompt="look"), Tier.STANDARD, ("no signal either way",)),
        (TaskSpec(title="embrace trace"), Tier.STANDARD, ("no signal either way",)),
        (TaskSpec(title="DEBUG it"), Tier.COMPLEX, ("complex words: debug",)),
    ],
)
def test_the_words_of_a_task_say_how_hard_it_looks(spec: TaskSpec, tier: Tier, signals: tuple[str, ...]) -> None:
    decision = infer(spec)

    assert (decision.inferred, decision.effective, decision.explicit) == (tier, tier, None)
    assert decision.signals == signals


def test_the_submitter_overrules_and_what_the_words_say_is_kept() -> None:
    decision = infer(TaskSpec(title="Fix the race", complexity=Tier.TRIVIAL))

    assert (decision.explicit, decision.inferred, decision.effective) == (Tier.TRIVIAL, Tier.COMPLEX, Tier.TRIVIAL)
    assert (decision.confidence, decision.inferred_confidence) == (1.0, 0.8)
    assert decision.signals == ("complex words: race",)
    assert decision.disagrees


@given(SPECS, st.sampled_from(Tier))
def test_naming_a_tier_changes_nothing_of_what_the_heuristic_finds(spec: TaskSpec, tier: Tier) -> None:
    named, unnamed = (infer(replace(spec, complexity=each)) for each in (tier, None))

    assert (named.inferred, named.signals) == (unnamed.inferred, unnamed.signals)
    assert named.inferred_confidence == unnamed.inferred_confidence == unnamed.confidence
    assert named.disagrees == (tier is not unnamed.inferred)
    assert not unnamed.disagrees


@given(SPECS)
def test_nothing_is_trivial_without_a_positive_signal(spec: TaskSpec) -> None:
    decision = infer(spec)

    if decision.inferred is Tier.TRIVIAL:
        assert any(signal.startswith(("trivial words", "a command and no prompt")) for signal in decision.signals)


@given(SPECS)
def test_a_decision_always_has_a_reason_and_an_honest_confidence(spec: TaskSpec) -> None:
    decision = infer(spec)

    assert decision.signals
    assert 0.5 <= decision.confidence <= 1.0
    assert 0.5 <= decision.inferred_confidence <= 0.95
    assert (decision.confidence == 1.0) == (spec.complexity is not None)
    assert decision.effective is (spec.complexity or decision.inferred)


@given(SPECS)
def test_the_same_task_always_looks_the_same(spec: TaskSpec) -> None:
    assert infer(spec) == infer(spec)


def test_no_word_speaks_for_both() -> None:
    assert not COMPLEX_WORDS & TRIVIAL_WORDS


@pytest.mark.parametrize("chars", [10, SHORT_CHARS, SHORT_CHARS + 50])
def test_equal_words_look_alike_and_what_else_counts_still_does(chars: int) -> None:
    title = "x" * chars
    plain, named = infer(TaskSpec(title=title)), infer(TaskSpec(title=title, complexity=Tier.COMPLEX))

    assert infer(TaskSpec(title=title)) == plain
    assert (plain.effective, named.effective, named.inferred) == (Tier.STANDARD, Tier.COMPLEX, plain.inferred)
    assert infer(TaskSpec(title=title, command="true")) != plain

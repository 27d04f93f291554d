from protocol.loads import MAX_CALLS, ToolUse, Turn
from sidecar.core.telling import TOLD_EVERY, TOLD_FIRST, Telling

READ = ToolUse(tool="read", target="a.py")


def test_each_of_the_first_turns_is_told_with_its_calls() -> None:
    telling = Telling()

    told = [telling.turn(number, [READ]) for number in range(1, TOLD_FIRST + 1)]

    assert told == [Turn(number=number, calls=(READ,)) for number in range(1, TOLD_FIRST + 1)]


def test_a_turn_of_many_calls_tells_some_and_counts_the_others() -> None:
    assert Telling().turn(1, [READ] * 30) == Turn(number=1, calls=(READ,) * MAX_CALLS, more=30 - MAX_CALLS)


def test_of_a_long_attempt_a_few_turns_are_told_and_no_call_is_lost() -> None:
    telling = Telling()

    told = [turn for number in range(1, 1_001) if (turn := telling.turn(number, [READ, READ])) is not None]

    assert len(told) <= TOLD_FIRST + 1_000 // TOLD_EVERY
    last = told[-1].number
    assert sum(len(turn.calls) + turn.more for turn in told) == 2 * last
    assert 1_000 - last < TOLD_EVERY

from protocol.loads import ToolUse
from sidecar.core.stamina import GROWTH, MOST, Stamina

READ, EDIT = ToolUse(tool="read", target="a.py"), ToolUse(tool="edit", target="a.py")
RED, GREEN = ToolUse(tool="run", target="make", ok=False), ToolUse(tool="run", target="make")


def test_turns_grow_while_files_change_and_never_beyond_twice() -> None:
    stamina = Stamina(10)
    for number in range(20):
        stamina.after([EDIT], [f"changed {number}"])

    assert stamina.turns == MOST * 10


def test_a_command_that_succeeds_after_it_failed_is_progress() -> None:
    stamina = Stamina(10)
    for call in (RED, READ, GREEN, GREEN):
        stamina.after([call], ["ok" if call.ok else "exit code 1"])

    assert stamina.turns == 10 + GROWTH - 1  # the second time it said nothing new


def test_turns_shrink_while_calls_come_to_nothing() -> None:
    stamina = Stamina(10)
    stamina.after([READ], ["one"])
    for _ in range(3):
        stamina.after([READ, ToolUse(tool="edit", target="a.py", ok=False)], ["one", "error: it is not there"])

    assert (stamina.turns, stamina.in_vain) == (7, 3)
    stamina.after([READ], ["another text"])
    assert (stamina.turns, stamina.in_vain) == (7, 0)


def test_a_test_that_fails_in_another_way_is_not_in_vain() -> None:
    stamina = Stamina(10)
    for number in range(5):
        stamina.after([RED], [f"exit code 1: {number}"])

    assert (stamina.turns, stamina.in_vain) == (10, 0)


def test_a_turn_without_calls_says_nothing() -> None:
    stamina = Stamina(10)
    stamina.after([], [])

    assert (stamina.turns, stamina.in_vain) == (10, 0)

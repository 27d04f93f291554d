import pytest

from sidecar.core.diff import Change, whole_file
from sidecar.core.placeholders import placeholders


def found(text: str, path: str = "a.py") -> list[tuple[int, str]]:
    return list(placeholders(whole_file(path, text.encode(), 1 << 20)))


@pytest.mark.parametrize(
    "line, marker",
    [
        ("x = 1  # TODO: the rest", "TODO"),
        ("// FIXME", "FIXME"),
        ("    raise NotImplementedError", "NotImplementedError"),
        ("todo!()", "todo!"),
        ("key = 'PLACEHOLDER'", "PLACEHOLDER"),
        ("# your code here", "your code here"),
        ("# ... existing code unchanged ...", "existing code unchanged"),
        ("return 'not implemented yet'", "not implemented"),
    ],
)
def test_a_line_that_puts_the_work_off_is_found(line: str, marker: str) -> None:
    assert found(line, "any.txt") == [(1, marker)]


@pytest.mark.parametrize(
    "line",
    ["todos = load()", "the placeholder text of the field", "mask = 'XXX-XX-1234'", "TODOLIST = 1", "pass", "..."],
)
def test_words_that_only_look_alike_are_left_alone(line: str) -> None:
    assert found(line) == []


@pytest.mark.parametrize(
    "text, lines",
    [
        ("def f():\n    pass\n", [(1, "f() is empty")]),
        ("async def f(a: int) -> int: ...\n", [(1, "f() is empty")]),
        ('def f():\n    """What it does.\n\n    More.\n    """\n    pass\n', [(1, "f() is empty")]),
        ('def f():\n    """What it does."""\n    ...  # later\n', [(1, "f() is empty")]),
        ("def f():\n    return 1\n", []),
        ("@abstractmethod\ndef f(self): ...\n", []),
        ("@typing.overload\ndef f(self): ...\n", []),
        ("def f():\n    try:\n        g()\n    except E:\n        pass\n", []),
        ("class A:\n    pass\n", []),
    ],
)
def test_a_function_that_was_added_empty_is_found(text: str, lines: list[tuple[int, str]]) -> None:
    assert found(text) == lines


@pytest.mark.timeout(20)
def test_a_line_without_end_is_read_in_no_time() -> None:
    assert found("def f(" + ")->" * 300_000) == []


def test_only_added_lines_are_the_works() -> None:
    assert list(placeholders(Change("a.py", removed=("# TODO",)))) == []
    assert list(placeholders(Change("a.py", ((7, "def f():"),)))) == []

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.editing import Edited, NoPlace, edited

CODE = "def a():\n    x = 1  \n    return x\n\n\ndef b():\n\treturn 2\n"
ENDS = "but for blanks at line ends"
INDENT = "but for the indentation, which was fitted to the file's"


@pytest.mark.parametrize(
    "old, new, becomes, first, last, note",
    [
        ("x = 1", "x = 2", CODE.replace("x = 1", "x = 2"), 2, 2, ""),
        (
            "    x = 1\n    return x",
            "    return 1",
            CODE.replace("    x = 1  \n    return x", "    return 1"),
            2,
            2,
            ENDS,
        ),
        (
            "x = 1\nreturn x",
            "x = 3\nreturn -x",
            CODE.replace("x = 1  \n    return x", "x = 3\n    return -x"),
            2,
            3,
            INDENT,
        ),
        ("        x = 1\n        return x\n", "        return 9\n", "def a():\n    return 9" + CODE[33:], 2, 2, INDENT),
        ("def b():\n\treturn 2\n", "", CODE[:36], 6, 6, ""),
        (
            "return 2",
            "if c:\n\treturn 2\nelse:\n\treturn 3",
            CODE[:-9] + "if c:\n\treturn 2\nelse:\n\treturn 3\n",
            7,
            10,
            "",
        ),
    ],
)
def test_a_place_is_found_exactly_or_but_for_blanks(
    old: str, new: str, becomes: str, first: int, last: int, note: str
) -> None:
    done = edited(CODE, old, new)

    assert (done.text, done.note) == (becomes, note)
    assert (done.first, done.last) == (first, last)


@pytest.mark.parametrize(
    "old, first, last, why",
    [
        ("return", 0, 0, "occurs 2 times; take in more of the lines around it, or say which lines"),
        ("retrun x", 0, 0, "does not occur in the file; line 3 is like it: return x; read it and copy the text"),
        ("nothing of it", 0, 0, "does not occur in the file; read it"),
        ("return x\n  x = 1", 0, 0, "does not occur"),
        ("", 0, 0, "is empty; name lines, or use write"),
        ("x", 9, 0, "lines 9 to 9 are not there; the file has 7"),
        ("x", 3, 2, "lines 3 to 2 are not there"),
        ("return 2", 1, 3, "does not occur"),
        ("\n", 0, 0, "occurs 7 times"),
    ],
)
def test_what_is_nowhere_or_in_several_places_is_refused_and_said(old: str, first: int, last: int, why: str) -> None:
    with pytest.raises(NoPlace) as refused:
        edited(CODE, old, "y", first=first, last=last)

    assert str(refused.value).startswith(why)


def test_lines_say_which_of_several_places_is_meant() -> None:
    assert edited(CODE, "return", "yield", first=7).text == CODE[:-9] + "yield 2\n"


@pytest.mark.parametrize(
    "text, first, last, new, becomes",
    [
        ("a\nb\nc\n", 2, 0, "x\ny", "a\nx\ny\nc\n"),
        ("a\nb\nc\n", 2, 3, "x\n", "a\nx\n"),
        ("a\nb\nc\n", 2, 2, "", "a\nc\n"),
        ("a\nb", 2, 9, "x", "a\nx"),
        ("", 1, 1, "x", "x"),
    ],
)
def test_whole_lines_are_replaced(text: str, first: int, last: int, new: str, becomes: str) -> None:
    assert edited(text, "", new, first=first, last=last).text == becomes


def test_line_ends_stay_as_they_are_in_the_file() -> None:
    assert edited("a\r\nb\r\n", "a\nb", "a\nc").text == "a\r\nc\r\n"
    assert edited("a\r\nb\n", "b", "c").text == "a\r\nc\n"  # mixed ones are nobody's to mend


@given(st.text("ab \t\n", max_size=40), st.text("ab \t\n", min_size=1, max_size=8), st.text("xy\n", max_size=6))
def test_a_text_that_occurs_once_is_replaced_there_and_nowhere_else(text: str, old: str, new: str) -> None:
    if text.count(old) == 1:
        assert edited(text, old, new) == Edited(text.replace(old, new), *_span(text, old, new))
        return
    try:
        done = edited(text, old, new)
    except NoPlace:
        return
    assert done.note


def _span(text: str, old: str, new: str) -> tuple[int, int]:
    first = text[: text.index(old)].count("\n") + 1
    return first, first + max(0, len(new.rstrip("\n").split("\n")) - 1)

"""A package of four modules with more than a hundred tests, of which one function can be broken.

Small functions of the kind that real packages have, each with six tests written by hand; unittest runs them without
anything installed. :func:`files` writes them out, :data:`BROKEN` is what one of them is like before it is repaired.
"""

from typing import Final

TEXT: Final = '''"""Text in and out."""

import re


def slug(title):
    """The title as part of an address."""
    return "-".join(re.findall(r"[a-z0-9]+", title.lower()))


def wrap(text, width):
    """Lines of at most so many characters; a longer word has a line of its own."""
    lines = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def initials(name):
    """The first letter of each word."""
    return "".join(word[0].upper() for word in name.split())


def count_words(text):
    """How often each word occurs, in small letters."""
    found = {}
    for word in re.findall(r"[a-z']+", text.lower()):
        found[word] = found.get(word, 0) + 1
    return found


def is_palindrome(text):
    """Whether it reads the same from behind, letters and digits alone."""
    letters = [letter for letter in text.lower() if letter.isalnum()]
    return letters == letters[::-1]
'''

NUMBERS: Final = '''"""Numbers and their like."""


def mean(values):
    """The arithmetic mean."""
    return sum(values) / len(values)


def median(values):
    """The one in the middle, or half way between the two in the middle."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def gcd(a, b):
    """The greatest common divisor."""
    while b:
        a, b = b, a % b
    return abs(a)


def roman(number):
    """The number as the Romans wrote it."""
    marks = ((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"))
    marks += ((10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))
    said = ""
    for value, mark in marks:
        while number >= value:
            said += mark
            number -= value
    return said


def digits(number, base=10):
    """The digits in a base, the highest first."""
    found = []
    while True:
        number, digit = divmod(number, base)
        found.insert(0, digit)
        if not number:
            return found
'''

LISTS: Final = '''"""Lists of anything."""


def chunks(values, size):
    """Pieces of so many; the last one may be shorter."""
    return [values[at : at + size] for at in range(0, len(values), size)]


def flatten(values):
    """What is in the lists of a list, however deep."""
    found = []
    for value in values:
        found += flatten(value) if isinstance(value, list) else [value]
    return found


def unique(values):
    """Each value once, where it came first."""
    return list(dict.fromkeys(values))


def rotate(values, by):
    """The values moved to the left, the first ones behind the last."""
    if not values:
        return []
    at = by % len(values)
    return values[at:] + values[:at]


def merge(left, right):
    """Two sorted lists as one."""
    merged, left, right = [], list(left), list(right)
    while left and right:
        merged.append((left if left[0] <= right[0] else right).pop(0))
    return merged + left + right
'''

TIMES: Final = '''"""Times of day and how long things take."""


def seconds(text):
    """Seconds of a duration like 1h30m."""
    total, number = 0, ""
    for letter in text:
        if letter.isdigit():
            number += letter
        else:
            total += int(number) * {"h": 3600, "m": 60, "s": 1}[letter]
            number = ""
    return total


def clock(count):
    """Seconds as hours, minutes and seconds."""
    return f"{count // 3600}:{count // 60 % 60:02}:{count % 60:02}"


def is_leap(year):
    """Whether the year has a 29th of February."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def days_in(month, year):
    """How many days a month has."""
    return 28 + is_leap(year) if month == 2 else 30 + (month + month // 8) % 2


def overlap(first, second):
    """How long two spans are at the same time."""
    return max(0, min(first[1], second[1]) - max(first[0], second[0]))
'''

MODULES: Final = {"text": TEXT, "numbers": NUMBERS, "lists": LISTS, "times": TIMES}

CASES: Final[dict[str, dict[str, list[tuple[str, object]]]]] = {
    "text": {
        "slug": [
            ("'Hello, World!'", "hello-world"),
            ("'one'", "one"),
            ("''", ""),
            ("'  A  b '", "a-b"),
            ("'C3 and PO'", "c3-and-po"),
            ("'--x--'", "x"),
        ],
        "wrap": [
            ("'a b c', 3", ["a b", "c"]),
            ("'', 5", []),
            ("'word', 2", ["word"]),
            ("'one two', 7", ["one two"]),
            ("'one two', 6", ["one", "two"]),
            ("'a  b', 9", ["a b"]),
        ],
        "initials": [
            ("'ada lovelace'", "AL"),
            ("''", ""),
            ("'x'", "X"),
            ("' a  b '", "AB"),
            ("'Grace Brewster Hopper'", "GBH"),
            ("'é f'", "ÉF"),
        ],
        "count_words": [
            ("''", {}),
            ("'a b a'", {"a": 2, "b": 1}),
            ("'A a'", {"a": 2}),
            ("'stop. Stop!'", {"stop": 2}),
            ('"don\'t"', {"don't": 1}),
            ("'1 2'", {}),
        ],
        "is_palindrome": [
            ("'Anna'", True),
            ("''", True),
            ("'ab'", False),
            ("'Was it a car?'", False),
            ("'Was it a car or a cat I saw?'", True),
            ("'12 21'", True),
        ],
    },
    "numbers": {
        "mean": [
            ("[1]", 1),
            ("[1, 2]", 1.5),
            ("[2, 2, 2]", 2),
            ("[-1, 1]", 0),
            ("[0, 0, 3]", 1),
            ("[1.5, 2.5]", 2),
        ],
        "median": [
            ("[1]", 1),
            ("[1, 2]", 1.5),
            ("[3, 1, 2]", 2),
            ("[4, 1, 3, 2]", 2.5),
            ("[5, 5, 1]", 5),
            ("[0, 10, 20, 30]", 15),
        ],
        "gcd": [("12, 18", 6), ("7, 3", 1), ("0, 5", 5), ("5, 0", 5), ("-12, 18", 6), ("100, 100", 100)],
        "roman": [("1", "I"), ("4", "IV"), ("9", "IX"), ("40", "XL"), ("1994", "MCMXCIV"), ("2025", "MMXXV")],
        "digits": [
            ("0", [0]),
            ("7", [7]),
            ("120", [1, 2, 0]),
            ("5, 2", [1, 0, 1]),
            ("255, 16", [15, 15]),
            ("8, 8", [1, 0]),
        ],
    },
    "lists": {
        "chunks": [
            ("[], 2", []),
            ("[1], 2", [[1]]),
            ("[1, 2, 3], 2", [[1, 2], [3]]),
            ("[1, 2], 1", [[1], [2]]),
            ("[1, 2], 9", [[1, 2]]),
            ("'abc', 2", ["ab", "c"]),
        ],
        "flatten": [
            ("[]", []),
            ("[1]", [1]),
            ("[[1], 2]", [1, 2]),
            ("[[[1]]]", [1]),
            ("[[], []]", []),
            ("[[1, [2, [3]]]]", [1, 2, 3]),
        ],
        "unique": [
            ("[]", []),
            ("[1, 1]", [1]),
            ("[2, 1, 2]", [2, 1]),
            ("'aba'", ["a", "b"]),
            ("[1, 2]", [1, 2]),
            ("[None, None]", [None]),
        ],
        "rotate": [
            ("[], 3", []),
            ("[1, 2, 3], 1", [2, 3, 1]),
            ("[1, 2], 2", [1, 2]),
            ("[1, 2, 3], -1", [3, 1, 2]),
            ("[1, 2, 3], 0", [1, 2, 3]),
            ("[1, 2], 5", [2, 1]),
        ],
        "merge": [
            ("[], []", []),
            ("[1], []", [1]),
            ("[1, 3], [2]", [1, 2, 3]),
            ("[1], [1]", [1, 1]),
            ("[2], [1, 3]", [1, 2, 3]),
            ("[1, 2], [3]", [1, 2, 3]),
        ],
    },
    "times": {
        "seconds": [("'1h'", 3600), ("'90s'", 90), ("''", 0), ("'1h30m'", 5400), ("'1m1s'", 61), ("'2h0m5s'", 7205)],
        "clock": [
            ("0", "0:00:00"),
            ("59", "0:00:59"),
            ("60", "0:01:00"),
            ("3600", "1:00:00"),
            ("3661", "1:01:01"),
            ("86400", "24:00:00"),
        ],
        "is_leap": [
            ("2024", True),
            ("2023", False),
            ("1900", False),
            ("2000", True),
            ("2100", False),
            ("1600", True),
        ],
        "days_in": [
            ("1, 2023", 31),
            ("2, 2023", 28),
            ("2, 2024", 29),
            ("4, 2023", 30),
            ("8, 2023", 31),
            ("9, 2023", 30),
        ],
        "overlap": [
            ("(0, 5), (3, 9)", 2),
            ("(0, 1), (2, 3)", 0),
            ("(0, 9), (2, 3)", 1),
            ("(1, 2), (1, 2)", 1),
            ("(0, 5), (5, 9)", 0),
            ("(3, 9), (0, 5)", 2),
        ],
    },
}
"""By module and function: arguments as they are written, and what comes out."""

PLACE: Final = "toolbox/numbers.py"
GOOD: Final = "    return (ordered[middle - 1] + ordered[middle]) / 2\n"
BROKEN: Final = "    return (ordered[middle] + ordered[middle + 1]) / 2\n"
"""What ``median`` returns for an even count while it is broken: three of its tests fail."""
TESTS: Final = sum(len(cases) for functions in CASES.values() for cases in functions.values())
RUN: Final = "python3 -m unittest discover -q -s tests -t ."


def files(*, broken: bool = True) -> dict[str, str]:
    """The files of the package, its tests and its readme."""
    found = {"README.md": "# toolbox\n\nSmall functions.\n", "toolbox/__init__.py": "", "tests/__init__.py": ""}
    for module, source in MODULES.items():
        found[f"toolbox/{module}.py"] = source
        found[f"tests/test_{module}.py"] = _tests(module)
    if broken:
        found[PLACE] = found[PLACE].replace(GOOD, BROKEN)
    return found


def _tests(module: str) -> str:
    functions = CASES[module]
    lines = ["import unittest", "", f"from toolbox.{module} import {', '.join(sorted(functions))}"]
    for name, cases in functions.items():
        lines += ["", "", f"class {name.title().replace('_', '')}(unittest.TestCase):"]
        for number, (arguments, expected) in enumerate(cases, start=1):
            lines += [*([""] if number > 1 else []), f"    def test_{name}_{number}(self):"]
            lines += [f"        self.assertEqual({name}({arguments}), {expected!r})"]
    return "\n".join([*lines, ""])

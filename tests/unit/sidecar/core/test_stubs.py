"""Functions that give one answer to everything are found; honest ones are not."""

import pytest

from sidecar.core.stubs import constants

OLD = "def add(a, b):\n    return a + b\n"


@pytest.mark.parametrize(
    "path, text, added, found",
    [
        ("a.py", "def add(a, b):\n    return 5\n", {2}, "add() returns 5 whatever it is given"),
        (
            "a.py",
            'def add(a, b):\n    """Sum."""\n\n    # quick\n    return 5  # x\n\nx = 1',
            {5},
            "add() returns 5",
        ),
        ("a.py", "def even(n):\n    return True\n", {2}, "even() returns True"),
        ("a.py", "async def name(x: int) -> str: return 'Ann'\n", {1}, "name() returns 'Ann'"),
        ("a.py", "class A:\n    def f(self, x):\n        return [1, 2]\n    y = 1", {3}, "f() returns [1, 2]"),
        ("a.js", "function add(a, b) {\n  return 5;\n}\n", {2}, "add() returns 5"),
        ("a.ts", "const add = (a, b) => { return 5 }\n", {1}, "add() returns 5"),
        ("a.go", "func Add(a, b int) int {\n\treturn 5\n}\n", {2}, "Add() returns 5"),
        ("a.rs", "fn add(a: i32, b: i32) -> i32 {\n    5\n}\n", {2}, "add() returns 5"),
        ("a.py", OLD, {1, 2}, None),
        ("a.py", "def add(a, b):\n    return 5\n", {1}, None),  # the value was there before
        ("a.py", "def hook(event):\n    return None\n", {1, 2}, None),
        ("a.py", "def limit():\n    return 500\n", {1, 2}, None),
        ("a.py", "def size(self):\n    return 500\n", {1, 2}, None),
        ("a.py", "def f(a):\n    if a == 2:\n        return 5\n    return a\n", {3}, None),
        ("a.py", "def f(a):\n    return 5\n    return a\n", {2}, None),
        ("a.js", "if (a) { return 5 }\n", {1}, None),
        ("a.txt", "def add(a, b):\n    return 5\n", {2}, None),
        ("a.py", f"x = '{'x' * 3000}'\n{OLD}", {1}, None),
    ],
)
def test_one_value_for_everything_is_found(path: str, text: str, added: set[int], found: str | None) -> None:
    said = [what for _, what in constants(path, text.splitlines(), added)]

    assert len(said) == (found is not None), said
    assert (found or "") in "".join(said)

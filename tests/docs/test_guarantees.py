"""The pages of guarantees and of the security model name tests; a promise without its test would be advertising."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "guarantees.md"
SECURITY = ROOT / "docs" / "operate" / "security.md"
NAMED = re.compile(r"`(test_\w+)`")


def all_tests(folder: Path) -> set[str]:
    """The names of all test functions under ``folder``."""
    return {
        node.name
        for path in folder.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def rows_of(page: str) -> list[list[str]]:
    """The cells of every row of every table, head and line below it left out."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    return [row for row in rows if set(row[0]) != {"-"} and row[-1] not in {"shown by", "runs", "otherwise"}]


def test_every_test_that_the_pages_name_exists() -> None:
    named = {name for page in (PAGE, SECURITY) for name in NAMED.findall(page.read_text("utf-8"))}

    assert len(named) > 10
    assert named - all_tests(ROOT / "tests") == set()


def test_every_promise_names_a_test() -> None:
    unproven = [
        row[0] for row in rows_of(PAGE.read_text("utf-8")) if len(row) in {3, 5} and "`test_" not in "".join(row)
    ]

    assert unproven == []

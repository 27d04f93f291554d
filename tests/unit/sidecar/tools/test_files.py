from typing import Any

import pytest

from sidecar.tools.base import Tool
from sidecar.tools.files import file_tools
from tests.support.attempts import Bench


@pytest.fixture
def files(bench: Bench) -> dict[str, Tool[Any]]:
    (bench.workspace / "src").mkdir()
    (bench.workspace / "src" / "a.py").write_text("one\ntwo\nthree\ntwo (again)\n")
    (bench.workspace / "raw.bin").write_bytes(b"\xff\xfe\0")
    return {tool.name: tool for tool in file_tools(bench.cell)}


async def test_list_tells_directories_from_files(files: dict[str, Tool[Any]], bench: Bench) -> None:
    (bench.workspace / "l").symlink_to("/etc")
    (bench.workspace / "empty").mkdir()

    assert await files["list"].call({}) == "empty/\nl (link, not followed)\nraw.bin\nsrc/"
    assert await files["list"].call({"path": "empty"}) == "(empty)"


async def test_a_long_list_is_cut_and_counted(files: dict[str, Tool[Any]], bench: Bench) -> None:
    for number in range(450):
        (bench.workspace / "src" / f"f{number:03}").touch()

    assert (await files["list"].call({"path": "src"})).endswith("[51 more]")


async def test_read_shows_the_lines_that_were_asked_for(files: dict[str, Tool[Any]]) -> None:
    read = files["read"].call

    assert await read({"path": "src/a.py"}) == "src/a.py: lines 1 to 4 of 4\none\ntwo\nthree\ntwo (again)\n"
    assert (
        await read({"path": "src/a.py", "first_line": 2, "last_line": 3}) == "src/a.py: lines 2 to 3 of 4\ntwo\nthree\n"
    )
    assert await read({"path": "src/a.py", "first_line": 9}) == "src/a.py: it has 4 lines"


async def test_a_large_file_is_shown_in_part(files: dict[str, Tool[Any]], bench: Bench) -> None:
    (bench.workspace / "big").write_text("x" * 100_000)

    shown = await files["read"].call({"path": "big"})

    assert len(shown) < 25_000
    assert "bytes left out" in shown


@pytest.mark.parametrize(
    "tool, arguments, error",
    [
        ("read", {}, "path: is missing"),
        ("read", {"path": 1, "first_line": "2", "lines": 3}, "arguments has 3 problems"),
        ("read", {"path": "src/a.py", "first_line": 0, "last_line": -1}, "arguments has 2 problems"),
        ("read", {"path": "raw.bin"}, "is no UTF-8 text"),
        ("read", {"path": "../x"}, "leaves the workspace"),
        ("list", {"path": "nothing"}, "is not there"),
        ("search", {"text": ""}, "text: is empty"),
        ("search", {"text": "x", "path": "/etc"}, "leaves the workspace"),
        ("search", {"text": "x", "path": "nothing"}, "is not there"),
        ("search", {"text": "a\0b"}, "error: "),
        ("search", {"text": "(", "regex": True}, "error: grep: "),
        ("edit", {"path": "src/a.py", "old": "four", "new": ""}, "does not occur in the file"),
        ("edit", {"path": "src/a.py", "old": "two", "new": ""}, "occurs 2 times"),
        ("edit", {"path": "src/a.py", "old": "", "new": "x"}, "use write"),
        ("edit", {"path": ".git/config", "old": "a", "new": "b"}, "belongs to git"),
        ("write", {"path": "a/../../b", "content": ""}, "leaves the workspace"),
        ("write", {"path": "big", "content": "x" * ((1 << 20) + 1)}, "at most 1048576"),
    ],
)
async def test_a_mistake_comes_back_as_text(
    files: dict[str, Tool[Any]], tool: str, arguments: dict[str, Any], error: str
) -> None:
    answer = await files[tool].call(arguments)

    assert answer.startswith("error: ")
    assert error in answer


async def test_a_file_too_large_to_edit_is_refused(files: dict[str, Tool[Any]], bench: Bench) -> None:
    with (bench.workspace / "huge").open("wb") as huge:
        huge.truncate((8 << 20) + 1)

    assert "is larger than 8 MiB" in await files["read"].call({"path": "huge"})


async def test_search_finds_lines_literally_or_by_pattern(files: dict[str, Tool[Any]]) -> None:
    search = files["search"].call

    assert await search({"text": "two ("}) == "src/a.py:4:two (again)"
    assert await search({"text": "^t.*e$", "regex": True, "path": "src"}) == "src/a.py:3:three"
    assert await search({"text": "--version"}) == "nothing found"


async def test_search_never_looks_into_git_or_through_links(files: dict[str, Tool[Any]], bench: Bench) -> None:
    (bench.workspace / ".git").mkdir()
    (bench.workspace / ".git" / "config").write_text("needle")
    (bench.scratch / "out").write_text("needle")
    (bench.workspace / "link").symlink_to(bench.scratch)

    assert await files["search"].call({"text": "needle"}) == "nothing found"
    assert "is a link" in await files["search"].call({"text": "needle", "path": "link"})


async def test_many_hits_are_cut_and_counted(files: dict[str, Tool[Any]], bench: Bench) -> None:
    (bench.workspace / "many").write_text("hit\n" * 300)

    assert (await files["search"].call({"text": "hit"})).endswith("[100 more lines; narrow the search]")


async def test_edit_replaces_the_one_place(files: dict[str, Tool[Any]], bench: Bench) -> None:
    answer = await files["edit"].call({"path": "src/a.py", "old": "three", "new": "drei"})

    assert answer == "replaced 1 place at line 3 of src/a.py; it reads now:\n1: one\n2: two\n3: drei\n4: two (again)"
    assert (bench.workspace / "src" / "a.py").read_text() == "one\ntwo\ndrei\ntwo (again)\n"


async def test_edit_shows_what_it_did_and_what_it_mended(files: dict[str, Tool[Any]], bench: Bench) -> None:
    (bench.workspace / "b.py").write_text("def a():\n    if x:\n        return 1\n")

    mended = await files["edit"].call({"path": "b.py", "old": "if x:\n    return 1", "new": "if y:\n    return 2"})
    by_lines = await files["edit"].call({"path": "b.py", "first_line": 3, "last_line": 3, "new": "        return 3"})

    assert mended == (
        "replaced 1 place at line 2 of b.py (but for the indentation, which was fitted to the file's); it reads now:\n"
        "1: def a():\n2:     if y:\n3:         return 2"
    )
    assert by_lines.startswith("replaced 1 place at line 3 of b.py; it reads now:\n1: def a():")
    assert (bench.workspace / "b.py").read_text() == "def a():\n    if y:\n        return 3\n"


async def test_write_makes_directories(files: dict[str, Tool[Any]], bench: Bench) -> None:
    assert await files["write"].call({"path": "new/é.txt", "content": "é\n"}) == "wrote 3 bytes to new/é.txt"
    assert (bench.workspace / "new" / "é.txt").read_text() == "é\n"


def test_every_tool_has_a_schema_that_a_model_can_read(files: dict[str, Tool[Any]]) -> None:
    assert files["edit"].parameters == {
        "type": "object",
        "properties": {
            "path": {"description": "file in the workspace", "type": "string"},
            "old": {
                "description": "text to replace, as in the file; must occur once; empty: whole lines",
                "type": "string",
                "default": "",
            },
            "new": {"description": "text to put in its place", "type": "string"},
            "first_line": {
                "description": "first line to look in, or to replace; 0: anywhere",
                "type": "integer",
                "default": 0,
            },
            "last_line": {"description": "last line to look in, or to replace", "type": "integer", "default": 0},
        },
        "required": ["path", "new"],
        "additionalProperties": False,
    }

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.mending import Unmendable, mended
from sidecar.executors.calls import calls_in_text, instructions, one_call
from sidecar.llm.base import ToolSpec

READ = [("read", {"path": "a"})]
TEXT, NUMBER, TRUTH = ({"type": kind} for kind in ("string", "integer", "boolean"))
KNOWN: dict[str, dict[str, Any]] = {
    name: {"type": "object", "properties": properties}
    for name, properties in {
        "read": {"path": TEXT, "first_line": NUMBER},
        "list": {"path": TEXT},
        "write": {"path": TEXT, "content": TEXT},
        "edit": {"path": TEXT, "old": TEXT, "new": TEXT, "first_line": NUMBER},
        "run": {"command": TEXT},
        "search": {"text": TEXT, "regex": TRUTH},
    }.items()
}
ANSWERS = json.loads((Path(__file__).parent / "answers.json").read_text("utf-8"))
"""What models have written instead of a call, in the shapes that people have reported."""


@pytest.mark.parametrize("answer", ANSWERS, ids=[f"{each['source']}: {each['what']}" for each in ANSWERS])
def test_what_small_models_write_is_understood_or_left_alone(answer: dict[str, Any]) -> None:
    calls = calls_in_text(answer["text"], KNOWN, first=0)

    assert [[call.name, call.arguments] for call in calls] == answer["calls"]


@given(st.text(alphabet="{}[]\"'`:,=<>/\\\n truefalsenull0123.#|", max_size=60))
def test_nothing_that_is_read_ends_the_reader(text: str) -> None:
    calls_in_text(text, KNOWN, first=0)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text(), parts, max_size=4),
    )
)
def test_json_without_mistakes_is_read_as_it_is(value: object) -> None:
    for indent in (None, 1):
        assert mended(json.dumps(value, indent=indent))[0] == value


@pytest.mark.parametrize("text", ["[" * 100_000, "{'a':" * 100_000, '{"a": b}', '{"a" 1}', "{,}", '{"a": "b', ":", ""])
def test_what_would_have_to_be_guessed_is_not_mended(text: str) -> None:
    with pytest.raises(Unmendable):
        mended(text)


def test_a_server_can_be_told_to_answer_with_one_call() -> None:
    schema = one_call([ToolSpec("read", "Show a file.", {"type": "object"}), ToolSpec("list", "", {})])

    assert [each["properties"]["name"]["enum"] for each in schema["anyOf"]] == [["read"], ["list"]]
    assert schema["anyOf"][0]["properties"]["arguments"] == {"type": "object"}


@pytest.mark.parametrize(
    "text, found",
    [
        ('{"name": "read", "arguments": {"path": "a"}}', READ),
        ('I look.\n```json\n{"name": "read", "arguments": {"path": "a"}}\n```\nSo.', READ),
        ('```\n{"tool": "read", "args": {"path": "a"}}\n```', READ),
        ('<tool_call>\n{"name": "read", "arguments": {"path": "a"}}\n</tool_call>', READ),
        ('{"function": {"name": "read", "arguments": "{\\"path\\": \\"a\\"}"}}', READ),
        ('[{"name": "read", "parameters": {"path": "a"}}]', READ),
        ('{"name": "list"}', [("list", {})]),
        ('{"name": "read", "arguments": {"path": "a"}}\n{"name": "list", "arguments": {}}', [*READ, ("list", {})]),
        ('{"name": "read", "arguments": {"path": "two\nlines"}}', [("read", {"path": "two\nlines"})]),
        ('{"name": "unknown", "arguments": {}}', []),
        ('{"name": "read", "arguments": [1]}', []),
        ('{"name": "read", "arguments": "{broken"}', []),
        ('{"name": 5}', []),
        ('{"path": "a"}', []),
        ("[1, 2]", []),
        ('I would call {"name": "read", "arguments": {}} but', []),
        ('```python\nprint("hi")\n```', []),
        ('{"name": "read", "arg', []),
        ("[" * 100_000, []),
        ("", []),
    ],
)
def test_a_call_that_is_written_out_counts_and_nothing_else_does(
    text: str, found: list[tuple[str, dict[str, str]]]
) -> None:
    calls = calls_in_text(text, KNOWN, first=7)

    assert [(call.name, call.arguments) for call in calls] == found
    assert [call.id for call in calls] == [f"text-{7 + n}" for n in range(len(found))]


@pytest.mark.parametrize(
    "begin, again",
    [
        ("done", " "),
        ("done", "\n"),
        ("read", "<|a|>"),
        ("to=", "functions."),
        ("", "to=functions.a<|"),
        ("", "<function=read>"),
        ("", '<invoke name="read" '),
        ("<function=read>", "<parameter=path"),
        ("<function=read><parameter=", "a"),
        ("", "read {a:/*\n"),
        ("", "Action: a\n"),
        ("", "```a "),
        ("", "<tool_call>"),
    ],
)
def test_an_answer_of_a_model_that_runs_away_is_read_once(begin: str, again: str) -> None:
    """What is read again from each of its places takes hours for this much."""
    calls_in_text(begin + again * (300_000 // len(again)) + "</function>x", KNOWN, first=0)


def test_the_instructions_show_the_form_and_every_tool() -> None:
    text = instructions([ToolSpec("read", "Show a file.", {"type": "object"})])

    assert calls_in_text(text, KNOWN, first=0)
    assert '- read: Show a file. Arguments: {"type": "object"}' in text

import pytest

from sidecar.executors.calls import calls_in_text, instructions
from sidecar.llm.base import ToolSpec

READ = [("read", {"path": "a"})]


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
    calls = calls_in_text(text, ["read", "list"], first=7)

    assert [(call.name, call.arguments) for call in calls] == found
    assert [call.id for call in calls] == [f"text-{7 + n}" for n in range(len(found))]


def test_the_instructions_show_the_form_and_every_tool() -> None:
    text = instructions([ToolSpec("read", "Show a file.", {"type": "object"})])

    assert calls_in_text(text, ["read"], first=0)
    assert '- read: Show a file. Arguments: {"type": "object"}' in text

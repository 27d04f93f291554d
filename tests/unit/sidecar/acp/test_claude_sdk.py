"""What the SDK says, in the words of the protocol; the SDK itself is tried in tests/e2e where it is installed."""

import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.acp.claude_sdk import Agent


class ClaudeSDKError(Exception):
    """As the SDK has it."""


@dataclass
class TextBlock:
    text: str


@dataclass
class ToolUseBlock:
    id: str
    name: str
    input: dict[str, Any]


@dataclass
class ToolResultBlock:
    tool_use_id: str
    content: Any
    is_error: bool | None = None


@dataclass
class AssistantMessage:
    content: list[Any]


@dataclass
class ResultMessage:
    subtype: str = "success"
    is_error: bool = False
    terminal_reason: str | None = None
    total_cost_usd: float | None = 0.5
    usage: dict[str, int] | None = None
    result: str | None = None
    errors: list[str] | None = None


@pytest.fixture
def agent() -> Agent:
    return Agent(SimpleNamespace(ClaudeSDKError=ClaudeSDKError))


def test_words_and_tools_become_updates(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [
        TextBlock("I look."),
        ToolUseBlock("1", "Edit", {"file_path": "a.py"}),
        ToolResultBlock("1", [{"type": "text", "text": "no such file"}], is_error=True),
        ToolResultBlock("2", None),
    ]
    agent._hear(AssistantMessage(blocks))
    updates = [json.loads(line)["params"]["update"] for line in capsys.readouterr().out.splitlines()]

    assert [update["sessionUpdate"] for update in updates] == [
        *("agent_message_chunk", "tool_call"),
        *("tool_call_update", "tool_call_update"),
    ]
    assert (updates[1]["title"], updates[1]["kind"]) == ("Edit a.py", "edit")
    assert [update["status"] for update in updates[2:]] == ["failed", "completed"]


@pytest.mark.parametrize(
    "message, reason",
    [
        (ResultMessage(), "end_turn"),
        (ResultMessage(terminal_reason="aborted_tools", is_error=True), "cancelled"),
        (ResultMessage(subtype="error_max_turns", is_error=True), "max_turn_requests"),
    ],
)
def test_the_end_is_told_with_what_was_used(agent: Agent, message: ResultMessage, reason: str) -> None:
    message.usage = {"input_tokens": 10, "cache_read_input_tokens": 30, "output_tokens": 2}

    assert agent._ended(message) == {
        "stopReason": reason,
        "usage": {
            "inputTokens": 10,
            "outputTokens": 2,
            "cachedReadTokens": 30,
            "cachedWriteTokens": 0,
            "totalTokens": 42,
        },
    }


@pytest.mark.parametrize(
    "message, why",
    [
        (ResultMessage(is_error=True, result="Credit balance is too low"), "Credit balance"),
        (ResultMessage(is_error=True, subtype="error_during_execution", errors=["a", "b"]), "a; b"),
        (ResultMessage(is_error=True, subtype="error_during_execution"), "error_during_execution"),
    ],
)
def test_a_turn_that_failed_is_an_error_and_no_end(agent: Agent, message: ResultMessage, why: str) -> None:
    with pytest.raises(ClaudeSDKError, match=why):
        agent._ended(message)

"""What people are told of the tool calls of a model, whatever the model has made up."""

import msgspec

from protocol.loads import ToolUse
from sidecar.tools.base import tool_use


def test_a_call_of_a_tool_with_an_endless_name_fits_into_a_message() -> None:
    told = tool_use("x" * 5_000, {"path": "y" * 5_000}, "error: there is no such tool", 0.1)

    assert not told.ok
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(told), type=ToolUse) == told

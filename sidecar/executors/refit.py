"""Make a conversation fit again that has outgrown the model's context: old results of tools go first, never the task.

The server would drop the beginning, which is the task itself. Pure; the caller is ``sidecar/executors/agent.py``, which
says in the log what was left out.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sidecar.llm.base import ChatMessage

LEFT_OUT: Final = "[{chars} characters of this result were left out to save room; call {tool} again if it is needed]"
KEPT_RESULTS: Final = 2
"""Newest results of tools that are left alone at first: the model is at work on them."""
SHARE: Final = 0.5
"""Share of the old results' characters that one refit takes out: room for some turns, not for one."""
_WORTH_CHARS: Final = 200
_HEAD_CHARS: Final = 1_000


def refit(messages: Sequence[ChatMessage]) -> tuple[tuple[ChatMessage, ...], int]:
    """The conversation with less in it, and how many characters were left out; 0: nothing more can go.

    The oldest results go until half of what could go is gone; when only the newest are left, they keep their beginning.
    """
    bulky = [at for at, message in enumerate(messages) if message.role == "tool" and len(message.text) > _WORTH_CHARS]
    old = bulky[:-KEPT_RESULTS]
    if not old:
        return _shortened(messages, bulky)
    goal = SHARE * sum(len(messages[at].text) for at in old)
    lighter, gone = list(messages), 0
    for at in old:
        if gone >= goal:
            break
        message = messages[at]
        note = LEFT_OUT.format(chars=len(message.text), tool=message.tool)
        gone += len(message.text) - len(note)
        lighter[at] = replace(message, text=note)
    return tuple(lighter), gone


def _shortened(messages: Sequence[ChatMessage], newest: Sequence[int]) -> tuple[tuple[ChatMessage, ...], int]:
    lighter, gone = list(messages), 0
    for at in newest:
        message = messages[at]
        kept = message.text[:_HEAD_CHARS]
        note = LEFT_OUT.format(chars=len(message.text) - len(kept), tool=message.tool)
        if (saved := len(message.text) - len(kept) - len(note) - 1) > 0:
            gone += saved
            lighter[at] = replace(message, text=f"{kept}\n{note}")
    return tuple(lighter), gone

from typing import Any

import pytest

from sidecar.acp.story import Story


def chunk(text: object, kind: str = "agent_message_chunk") -> dict[str, Any]:
    return {"sessionUpdate": kind, "content": {"type": "text", "text": text}}


def test_words_stream_and_steps_stand_on_lines_of_their_own() -> None:
    logged: list[tuple[str, str]] = []
    story = Story(lambda stream, text: logged.append((stream, text)))
    for update in (
        chunk("I will "),
        chunk("look."),
        {"sessionUpdate": "tool_call", "title": "Read\n a.py", "kind": "read"},
        {"sessionUpdate": "tool_call_update", "status": "in_progress"},
        {
            "sessionUpdate": "tool_call_update",
            "status": "failed",
            "content": [{"type": "content", "content": {"type": "text", "text": "no such file"}}],
        },
        {"sessionUpdate": "plan", "entries": [{"content": "mend it", "status": "completed"}, 5]},
        chunk("thinking", "agent_thought_chunk"),
        chunk("Done."),
    ):
        story.hear(update)

    assert story.output == "I will look.\n> Read a.py\n  failed: no such file\n[x] mend it\nDone."
    assert (story.last, story.steps) == ("Done.", 1)
    assert ("stdout", "thinking") in logged
    assert "".join(text for _, text in logged).replace("thinking", "") == story.output


@pytest.mark.parametrize(
    "update",
    [
        {},
        {"sessionUpdate": 5},
        {"sessionUpdate": "agent_message_chunk"},
        {"sessionUpdate": "agent_message_chunk", "content": [1]},
        chunk(5),
        chunk(None),
        {"sessionUpdate": "plan", "entries": 5},
        {"sessionUpdate": "tool_call_update", "status": "completed", "content": {"a": 1}},
        {"sessionUpdate": "tool_call_update", "status": ["completed"]},
        {"sessionUpdate": "usage_update", "cost": {"amount": "1", "currency": "USD"}},
        {"sessionUpdate": "usage_update", "cost": {"amount": -1, "currency": "USD"}},
        {"sessionUpdate": "usage_update", "cost": {"amount": 10**400, "currency": "USD"}},
        {"sessionUpdate": "usage_update", "cost": {"amount": float("nan"), "currency": "USD"}},
        {"sessionUpdate": "usage_update", "cost": {"amount": 1, "currency": "EUR"}},
        {"sessionUpdate": "something of tomorrow", "x": [[]]},
    ],
)
def test_news_of_a_wrong_shape_says_nothing(update: dict[str, Any]) -> None:
    story = Story(lambda _stream, _text: None)
    story.hear(update)

    assert (story.output, story.cost_usd) == ("", None)


def test_the_past_of_a_session_is_not_told_again_but_its_cost_counts() -> None:
    story = Story(lambda _stream, _text: None)
    story.is_muted = True
    story.hear(chunk("long ago"))
    story.hear({"sessionUpdate": "usage_update", "cost": {"amount": 0.25, "currency": "USD"}})

    assert (story.output, story.cost_usd) == ("", 0.25)


def test_of_endless_talk_only_the_end_is_kept() -> None:
    story = Story(lambda _stream, _text: None)
    for _ in range(300):
        story.hear(chunk("x" * 10_000))

    assert len(story.output) <= 1 << 20

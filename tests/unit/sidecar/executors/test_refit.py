from sidecar.executors.refit import refit
from sidecar.llm.base import ChatMessage, ToolCall


def conversation(*sizes: int) -> list[ChatMessage]:
    messages = [ChatMessage("user", "the task " * 1_000)]
    for number, size in enumerate(sizes):
        call = ToolCall(f"c{number}", "read", {"path": f"f{number}"})
        messages.append(ChatMessage("assistant", "I look.", (call,)))
        messages.append(ChatMessage("tool", "x" * size, call_id=call.id, tool="read"))
    return messages


def results(messages: tuple[ChatMessage, ...]) -> list[int]:
    return [len(message.text) for message in messages if message.role == "tool"]


def test_the_oldest_results_go_first_and_a_note_says_what_to_do() -> None:
    before = conversation(8_000, 4_000, 2_000, 1_000, 6_000, 7_000)

    after, gone = refit(before)

    note = "[8000 characters of this result were left out to save room; call read again if it is needed]"
    assert after[2].text == note
    assert gone == 8_000 - len(note)
    assert results(after) == [len(note), 4_000, 2_000, 1_000, 6_000, 7_000]


def test_the_task_the_calls_and_the_order_stay() -> None:
    before = conversation(8_000, 4_000, 2_000, 1_000)

    after, _ = refit(before)

    assert after[0] == before[0]
    assert [(m.role, m.call_id, m.tool_calls) for m in after] == [(m.role, m.call_id, m.tool_calls) for m in before]


def test_it_ends_with_the_beginnings_of_the_newest_results_and_then_says_so() -> None:
    messages = tuple(conversation(8_000, 4_000, 2_000, 5_000))
    sizes, rounds = [sum(results(messages))], 0
    while True:
        messages, gone = refit(messages)
        if gone == 0:
            break
        rounds += 1
        sizes.append(sum(results(messages)))

    assert rounds <= 6
    assert sizes == sorted(sizes, reverse=True)
    assert messages[-1].text.startswith("x" * 1_000)
    assert "call read again" in messages[-1].text


def test_without_results_nothing_can_go() -> None:
    messages = [ChatMessage("user", "the task " * 10_000), ChatMessage("assistant", "words " * 1_000)]

    assert refit(messages) == (tuple(messages), 0)

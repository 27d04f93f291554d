"""The request that an iteration puts to a model: within what is left, and loaded as the hub has planned it."""

from collections.abc import Mapping
from typing import Any

from protocol.choice import Effort
from sidecar.executors.base import Spending, Work
from sidecar.llm.base import ChatMessage, ChatRequest, ToolSpec
from sidecar.llm.effort import MORE_TOKENS


def asking(
    work: Work,
    spending: Spending,
    messages: tuple[ChatMessage, ...],
    *,
    system: str,
    most_tokens: int,
    tools: tuple[ToolSpec, ...] = (),
    context_tokens: int = 0,
    schema: Mapping[str, Any] | None = None,
) -> ChatRequest:
    """A request for one answer, whose text goes to the live log as it comes.

    Args:
        work, spending: for what, and what may still be used.
        messages, system, tools: what is said.
        most_tokens: the longest answer wanted.
        context_tokens: what the whole conversation will probably need, if the hub has planned nothing.
        schema: what the answer is to be JSON of, if it is.
    """
    load, effort = work.routing.load, work.effort
    return ChatRequest(
        system=system,
        messages=messages,
        tools=tools,
        model=work.routing.model or work.spec.model,
        max_output_tokens=spending.answer_tokens(most_tokens * (MORE_TOKENS if effort is Effort.HIGH else 1)),
        context_tokens=load.context if load else context_tokens,
        keep_alive_s=load.keep_alive_s if load else None,
        unload=load.unload if load else (),
        timeout_s=spending.seconds_left,
        effort=effort,
        price=work.routing.price,
        is_bounded=work.remaining.usd is not None,
        schema=schema,
        on_text=lambda text: work.log("stdout", text),
        on_flow=work.answering,
    )

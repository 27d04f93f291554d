"""The executor ``chat``: one answer of a model. The answer is the output, and may be saved as a file."""

import asyncio
import re
from typing import Final

from protocol.errors import BadInput, ModelFailed, WorkFailed
from protocol.limits import MAX_OUTPUT_BYTES
from protocol.model import FailureClass
from protocol.tree import Tree
from sidecar.core.outcome import tail
from sidecar.executors.asking import asking
from sidecar.executors.base import Execution, Pauses, Spending, Work, failed, summary
from sidecar.executors.prompt import task_text
from sidecar.llm.base import ChatMessage
from sidecar.llm.effort import answered
from sidecar.llm.endpoints import Endpoints

MAX_ANSWER_TOKENS: Final = 4096
_SYSTEM: Final = "You do one task of a queue. Answer with the result alone: no preamble, no question back."
_SYSTEM_FILE: Final = (
    "You write one file for a task of a queue. Answer with the file's whole content and nothing else: "
    "no preamble, no explanation."
)
_ONE_FENCE: Final = re.compile(r"\s*(?P<fence>`{3,}|~{3,})[^\n`]*\n(?P<content>.*?)\n?(?P=fence)\s*", re.DOTALL)


class ChatExecutor:
    """Asks a model once."""

    name = "chat"
    pauses: Pauses = "at once"

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    async def execute(self, work: Work) -> Execution:
        """Ask, and save the answer where ``save_as`` says."""
        spending = Spending(work)
        answer = ""
        try:
            spending.refuse_if_spent()
            provider = self._endpoints.provider(work.routing.endpoint)
            reply = await answered(
                provider,
                asking(
                    work,
                    spending,
                    (ChatMessage("user", await task_text(work, with_files=True)),),
                    system=_SYSTEM_FILE if work.spec.save_as else _SYSTEM,
                    most_tokens=MAX_ANSWER_TOKENS,
                ),
            )
            spending.add(reply.usage)
            answer = reply.text
            if not answer.endswith("\n"):
                work.log("stdout", "\n")
            if reply.finish == "length":
                raise ModelFailed(f"the answer was cut off after {reply.usage.output_tokens} tokens")
            if not answer.strip():
                raise ModelFailed("the model gave an empty answer")
        except WorkFailed as exc:
            return failed(exc, spending.usage, answer)
        if work.spec.save_as:
            return await _saved(work, answer, spending)
        return Execution(ok=True, output=tail(answer, MAX_OUTPUT_BYTES), summary=summary(answer), usage=spending.usage)


async def _saved(work: Work, answer: str, spending: Spending) -> Execution:
    content = unfenced(answer)
    raw = (content if content.endswith("\n") else f"{content}\n").encode("utf-8", "replace")
    path = work.spec.save_as
    work.check()
    try:
        await asyncio.to_thread(Tree(work.workspace).write_bytes, path, raw)
    except BadInput as exc:
        return Execution(
            ok=False,
            output=tail(answer, MAX_OUTPUT_BYTES),
            summary=summary(str(exc)),
            usage=spending.usage,
            error_code="cannot_save",
            error=f"cannot save the answer: {exc.problems[0].problem}",
            failure=FailureClass.INPUT,
        )
    return Execution(
        ok=True,
        output=tail(answer, MAX_OUTPUT_BYTES),
        summary=f"wrote {len(raw)} bytes to {path}",
        usage=spending.usage,
    )


def unfenced(answer: str) -> str:
    """The inside of a code fence if the whole answer is one, else the answer as it is."""
    whole = _ONE_FENCE.fullmatch(answer)
    if whole is None or whole["fence"] in whole["content"]:
        return answer
    return whole["content"]

"""The executor ``agent``: a model that works on the workspace with tools until it says it is finished.

Guards end what does not get anywhere: turns, tokens, money, seconds, and the same call over and over. The loop trusts
nothing that the model says about its success; the checks do that.
"""

import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final

import structlog
from msgspec import Meta, Struct

from protocol.choice import Effort
from protocol.errors import BudgetSpent, ModelFailed, PromptTooLong, ToolsUnsupported, WorkFailed
from protocol.limits import MAX_OUTPUT_BYTES
from protocol.loads import ToolUse
from sidecar.core.outcome import tail
from sidecar.core.stamina import IN_VAIN, Stamina
from sidecar.executors.asking import asking
from sidecar.executors.base import Execution, Pauses, Spending, Work, failed, summary
from sidecar.executors.calls import calls_in_text, instructions, one_call
from sidecar.executors.prompt import task_text
from sidecar.executors.refit import refit
from sidecar.executors.transcript import Transcript, with_note
from sidecar.llm.base import (
    ChatMessage,
    ChatReply,
    ChatRequest,
    Provider,
    ToolCall,
    ToolSpec,
    now_s,
    whole_call,
    whole_text,
)
from sidecar.llm.effort import answered
from sidecar.llm.endpoints import Endpoints
from sidecar.spans import span
from sidecar.tools import tools
from sidecar.tools.base import Tool, tool_use
from sidecar.tools.git import git_tools

MAX_TURNS: Final = 40
MORE_TURNS: Final = 2
"""Times the usual turns with more effort."""
MAX_ANSWER_TOKENS: Final = 4096
USUAL_CONTEXT: Final = 16_384
"""Tokens that a conversation with tools mostly stays below: a model loaded with room for them is loaded once."""
REPEATS_BEFORE_NUDGE: Final = 3
REPEATS_BEFORE_STOP: Final = 4
_LOGGED_CHARS: Final = 400
_FINISH: Final = "finish"
_TOOL: Final = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.type": "function"}
_TOOL_ERROR: Final = "tool_error"
_SYSTEM: Final = (
    "You do one task of a queue, alone, in a workspace of files. Use the tools: look before you change, make the "
    "smallest change that does the task, run what proves it, then call finish with a short summary. "
    "Paths are relative to the workspace. Nobody answers questions."
)
_USE_TOOLS: Final = "Go on with a tool call, or call finish with a summary if the task is done."
_REPEATED: Final = (
    "You have made this very call {count} times in a row, with the same result. "
    "Try something else, or call finish and say what stands in the way."
)
_CUT_OFF: Final = "Your answer was cut off because it was too long, and nothing of it was done. Take smaller steps."

log = structlog.get_logger(__name__)


class FinishArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of ``finish``."""

    summary: Annotated[str, Meta(description="what was done, in one or two sentences")]


async def _finished(arguments: FinishArguments) -> str:
    return arguments.summary


class AgentExecutor:
    """Lets a model work with tools."""

    name = "agent"
    pauses: Pauses = "turn"

    def __init__(self, endpoints: Endpoints, max_turns: int = MAX_TURNS) -> None:
        self._endpoints = endpoints
        self._max_turns = max_turns

    async def execute(self, work: Work) -> Execution:
        """Work until the model finishes, or a guard ends it."""
        spending = Spending(work)
        said: list[str] = []
        try:
            provider = self._endpoints.provider(work.routing.endpoint)
            task = await task_text(work, with_files=False) if work.resume is None else ""
            loop = _Loop(work, provider, spending, said, task, self._endpoints.holds_to_schema(work.routing.endpoint))
            done = await loop.run(self._max_turns * (MORE_TURNS if work.effort is Effort.HIGH else 1))
        except WorkFailed as exc:
            return failed(exc, spending.usage, "".join(said))
        log.info("agent_finished", task=work.attempt.task, turns=loop.turns, tokens=_tokens(spending))
        output = tail("".join(said), MAX_OUTPUT_BYTES)
        return Execution(ok=True, output=output, summary=summary(done), usage=spending.usage)


def _tokens(spending: Spending) -> int:
    return spending.usage.input_tokens + spending.usage.output_tokens


@dataclass(slots=True)
class _Loop:
    """One conversation. ``said`` collects what is shown as the output of the work.

    ``holds``: its server can hold an answer to a schema.
    """

    work: Work
    provider: Provider
    spending: Spending
    said: list[str]
    task: str
    holds: bool = False
    turns: int = 0
    _messages: list[ChatMessage] = field(default_factory=list)
    _tools: dict[str, Tool[Any]] = field(default_factory=dict)
    _specs: tuple[ToolSpec, ...] = ()
    _in_text: bool = False
    _last_call: str = ""
    _repeats: int = 0
    _nudged: bool = False
    _called: list[ToolUse] = field(default_factory=list)
    _results: list[str] = field(default_factory=list)

    async def run(self, max_turns: int) -> str:
        """The model's summary.

        Raises:
            WorkFailed: a guard ended it, or the endpoint failed.
        """
        work = self.work
        self._tools = tools(
            work.cell,
            seconds_left=lambda: self.spending.seconds_left,
            log=work.log,
            git=self._git_tools(),
        )
        self._tools[_FINISH] = Tool(_FINISH, "Say that the task is done.", FinishArguments, _finished)
        self._specs = tuple(ToolSpec(t.name, t.description, t.parameters) for t in self._tools.values())
        self._begin()
        stamina = Stamina(max_turns)
        while True:
            if self.turns >= stamina.turns:
                raise BudgetSpent("turns", stamina.turns, self.turns)
            if stamina.in_vain >= IN_VAIN:
                raise ModelFailed(
                    f"{stamina.in_vain} turns in a row came to nothing: calls that failed, or were made before"
                )
            self.spending.refuse_if_spent()
            self.turns += 1
            reply = await self._ask()
            self.spending.add(reply.usage)
            try:
                done = await self._take(reply)
            finally:
                if self._called:
                    work.called(self.turns, tuple(self._called))
                stamina.after(self._called, self._results)
                self._called.clear()
                self._results.clear()
            if done is not None:
                return done
            await work.turned(self._transcript())

    def _begin(self) -> None:
        """Put the task to the model, or go on with the conversation of an earlier attempt."""
        found = self.work.resume
        if found is None:
            self._messages = [ChatMessage("user", self.task)]
            return
        self._messages = list(with_note(found, self.work.note).messages)
        self.turns, self._in_text, self._nudged = found.turns, found.in_text, found.nudged
        self._last_call, self._repeats = found.last_call, found.repeats
        self.said.extend(found.said)

    def _transcript(self) -> Transcript:
        return Transcript(
            turns=self.turns,
            messages=tuple(self._messages),
            said=(tail("".join(self.said), MAX_OUTPUT_BYTES),),
            in_text=self._in_text,
            last_call=self._last_call,
            repeats=self._repeats,
            nudged=self._nudged,
        )

    def _git_tools(self) -> tuple[Tool[Any], ...]:
        work = self.work
        if work.repository is None:
            return ()
        return git_tools(work.repository, author=work.attempt.sidecar, model=work.routing.model)

    async def _ask(self) -> ChatReply:
        while True:
            request = self._request()
            try:
                return await answered(self.provider, request)
            except ToolsUnsupported:
                if self._in_text:
                    raise
                self._in_text = True
            except PromptTooLong as exc:
                self._make_room(exc)
            except ModelFailed:
                if request.schema is None:
                    raise
                self.holds = False  # an older server, which knows no schemas

    def _make_room(self, exc: PromptTooLong) -> None:
        """Leave old results of tools out, and say so.

        Raises:
            PromptTooLong: nothing is left that could go.
        """
        lighter, chars = refit(self._messages)
        if chars <= 0:
            raise exc
        self._messages = list(lighter)
        log.info("conversation_refitted", task=self.work.attempt.task, chars=chars, why=exc.code)
        self._say(f"[the model's context is full: {chars} characters of old results were left out]\n")

    def _request(self) -> ChatRequest:
        """The next question; a model that only talks is held to the form of a call, where its server can do that."""
        is_held = self._nudged and self.holds
        in_text = self._in_text or is_held
        return asking(
            self.work,
            self.spending,
            tuple(_plain(m) for m in self._messages) if in_text else tuple(self._messages),
            system=f"{_SYSTEM}\n\n{instructions(self._specs)}" if in_text else _SYSTEM,
            most_tokens=MAX_ANSWER_TOKENS,
            tools=() if in_text else self._specs,
            context_tokens=USUAL_CONTEXT,
            schema=one_call(self._specs) if is_held else None,
        )

    async def _take(self, reply: ChatReply) -> str | None:
        """Do what the reply asks for; the summary if it is the last one."""
        if reply.text.strip():
            self.said.append(f"{reply.text.strip()}\n")
            self.work.log("stdout", "" if reply.text.endswith("\n") else "\n")  # its text came while it was written
        if reply.finish == "length":
            # A call that was cut off would write half a file.
            self._messages += [ChatMessage("assistant", reply.text or "(cut off)"), ChatMessage("user", _CUT_OFF)]
            return None
        schemas = {spec.name: spec.parameters for spec in self._specs}
        found = reply.tool_calls or await asyncio.to_thread(
            calls_in_text, reply.text, schemas, first=len(self._messages)
        )
        calls = tuple(whole_call(call) for call in found)
        if not calls:
            return self._without_call(reply.text)
        self._nudged = False
        self._messages.append(ChatMessage("assistant", reply.text if reply.tool_calls else "", tool_calls=calls))
        for call in calls:
            done = await self._call(call)
            if done is not None:
                return done
        return None

    def _without_call(self, text: str) -> str | None:
        """A model that only talks is asked once to go on; if it still only talks, that is its summary."""
        if self._nudged:
            if not text.strip():
                raise ModelFailed("the model answers neither with a tool call nor with text")
            return text
        self._nudged = True
        self._messages += [ChatMessage("assistant", text or "(nothing)"), ChatMessage("user", _USE_TOOLS)]
        return None

    async def _call(self, call: ToolCall) -> str | None:
        shown = json.dumps(call.arguments, ensure_ascii=False)
        self._say(f"> {call.name} {shown[:_LOGGED_CHARS]}\n")
        tool, began_at = self._tools.get(call.name), now_s()
        done = None
        if call.problem:
            result = f"error: {call.problem}"
        elif tool is None:
            result = f"error: there is no tool {call.name!r}; there are {', '.join(self._tools)}"
        else:
            known = {**_TOOL, "gen_ai.tool.name": tool.name, "gen_ai.tool.call.id": call.id or None}
            with span(f"execute_tool {tool.name}", known) as told:
                result = whole_text([await tool.call(call.arguments)])  # names of files may be no Unicode
                if result.startswith("error:"):
                    told["error.type"] = told["problem"] = _TOOL_ERROR
            if tool.name == _FINISH and not result.startswith("error:"):
                done = result
        self._called.append(tool_use(call.name, call.arguments, result, now_s() - began_at))
        self._results.append(f"{shown}\n{result}")
        result += self._repetition(f"{call.name} {shown}\n{result}")
        self._say(f"  {summary(result)[:_LOGGED_CHARS]}\n")
        self._messages.append(ChatMessage("tool", result, call_id=call.id, tool=call.name))
        return done

    def _repetition(self, call: str) -> str:
        """What to tell a model that makes one call again and again; ends it if that was told before."""
        self._repeats = self._repeats + 1 if call == self._last_call else 1
        self._last_call = call
        if self._repeats >= REPEATS_BEFORE_STOP:
            raise ModelFailed(f"the model made the same call {self._repeats} times in a row, with the same result")
        return f"\n\n{_REPEATED.format(count=self._repeats)}" if self._repeats == REPEATS_BEFORE_NUDGE else ""

    def _say(self, text: str) -> None:
        self.said.append(text)
        self.work.log("stdout", text)


def _plain(message: ChatMessage) -> ChatMessage:
    """A turn for a model that knows no tools: calls and results as text."""
    if message.role == "tool":
        return ChatMessage("user", f"Result of {message.tool}:\n{message.text}")
    if message.tool_calls:
        calls = [json.dumps({"name": call.name, "arguments": call.arguments}) for call in message.tool_calls]
        fenced = "\n".join(f"```json\n{call}\n```" for call in calls)
        return replace(message, text=f"{message.text}\n{fenced}".strip(), tool_calls=())
    return message

"""The Claude Agent SDK as an agent that speaks the Agent Client Protocol: a program, run in the cell of an attempt.

``python claude_sdk.py SITE_PACKAGES``. It stands for itself and imports nothing of ours, for nothing of ours is there
to import; the SDK (``pip install 'agentcom[claude]'``) brings the program of Claude Code with it. What the agent asks
permission for is asked of our client, so the rules of the host hold. Started by ``sidecar/executors/acp.py`` like any
other agent; found by ``sidecar/bundled.py``.
"""

import asyncio
import importlib
import itertools
import json
import os
import sys
import uuid
from typing import Any, Final

KINDS: Final = {
    **dict.fromkeys(("Read", "NotebookRead"), "read"),
    **dict.fromkeys(("Edit", "MultiEdit", "Write", "NotebookEdit"), "edit"),
    **dict.fromkeys(("Glob", "Grep", "LS"), "search"),
    **dict.fromkeys(("WebFetch", "WebSearch"), "fetch"),
    **dict.fromkeys(("Bash", "BashOutput", "KillShell"), "execute"),
}
"""What its tools do, in the words of the protocol."""
QUIET: Final = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "IS_SANDBOX": "1",
}
PRESET: Final = {"type": "preset", "preset": "claude_code"}
"""Its own tools and its own words; without them it would only talk."""
SETTING: Final = {"id": "model", "name": "Model", "category": "model", "type": "select", "options": []}
ALLOW, REFUSE = "allow", "refuse"
OPTIONS: Final = [
    {"optionId": ALLOW, "name": "Allow", "kind": "allow_once"},
    {"optionId": REFUSE, "name": "Refuse", "kind": "reject_once"},
]


class Agent:
    """One conversation with a client, which has one session."""

    def __init__(self, sdk: Any) -> None:  # noqa: ANN401 - its package may not be there when this is judged
        self._sdk = sdk
        self._session, self._cwd, self._model, self._is_old = "", "", "default", False
        self._client: Any = None
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count(1)

    # --- the line ---------------------------------------------------------------------------------------------------

    async def serve(self, lines: asyncio.StreamReader) -> None:
        """Answer until the client has gone."""
        at_work = []
        async with asyncio.TaskGroup() as group:  # what goes wrong in one of them ends the program
            while line := await lines.readline():
                message = json.loads(line)
                if "method" in message:
                    at_work.append(group.create_task(self._work_on(message)))
                elif (asked := self._asked.pop(message["id"], None)) is not None:
                    asked.set_result(message.get("result"))
            for task in at_work:
                task.cancel()

    async def _work_on(self, message: dict[str, Any]) -> None:
        number, params = message.get("id"), message.get("params") or {}
        found = getattr(self, f"_on_{message['method'].replace('/', '_')}", None)
        if found is None:
            self._say({"id": number, "error": {"code": -32601, "message": f"no method {message['method']}"}})
            return
        try:
            result = await found(params)
        except (self._sdk.ClaudeSDKError, OSError) as exc:
            self._say({"id": number, "error": {"code": -32603, "message": str(exc) or type(exc).__name__}})
        else:
            if number is not None:
                self._say({"id": number, "result": result})

    def _say(self, message: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()

    def _tell(self, what: str, **facts: Any) -> None:
        update = {"sessionUpdate": what, **facts}
        self._say({"method": "session/update", "params": {"sessionId": self._session, "update": update}})

    # --- what the client asks ---------------------------------------------------------------------------------------

    async def _on_initialize(self, _params: dict[str, Any]) -> dict[str, Any]:
        abilities: dict[str, Any] = {"sessionCapabilities": {"resume": {}}}
        info = {"name": "claude-agent-sdk", "version": str(getattr(self._sdk, "__version__", ""))}
        return {"protocolVersion": 1, "agentCapabilities": abilities, "agentInfo": info}

    async def _on_session_new(self, params: dict[str, Any]) -> dict[str, Any]:
        self._session, self._cwd = str(uuid.uuid4()), params["cwd"]
        return {"sessionId": self._session, **self._settings()}

    async def _on_session_resume(self, params: dict[str, Any]) -> dict[str, Any]:
        self._session, self._cwd, self._is_old = params["sessionId"], params["cwd"], True
        return self._settings()

    def _settings(self) -> dict[str, Any]:
        return {"configOptions": [{**SETTING, "currentValue": self._model}]}

    async def _on_session_set_config_option(self, params: dict[str, Any]) -> dict[str, Any]:
        self._model = params["value"]
        return self._settings()

    async def _on_session_cancel(self, _params: dict[str, Any]) -> None:
        if self._client is not None:
            await self._client.interrupt()

    async def _on_session_prompt(self, params: dict[str, Any]) -> dict[str, Any]:
        text = "\n".join(block.get("text", "") for block in params["prompt"])
        self._client = self._sdk.ClaudeSDKClient(self._options())
        await self._client.connect()
        try:
            await self._client.query(text)
            async for message in self._client.receive_response():
                if type(message).__name__ == "ResultMessage":
                    return self._ended(message)
                self._hear(message)
        finally:
            await self._client.disconnect()
            self._client = None
        raise self._sdk.ClaudeSDKError("it ended without a result")

    def _options(self) -> Any:  # noqa: ANN401 - as above
        place = {"resume": self._session} if self._is_old else {"session_id": self._session}
        return self._sdk.ClaudeAgentOptions(
            cwd=self._cwd,
            env=QUIET,
            model=None if self._model == "default" else self._model,
            tools=PRESET,
            system_prompt=PRESET,
            can_use_tool=self._may,
            setting_sources=[],  # the workspace is no place to be told by what is allowed
            **place,
        )

    # --- what the SDK says ------------------------------------------------------------------------------------------

    async def _may(self, tool: str, facts: dict[str, Any], _context: object) -> Any:  # noqa: ANN401 - as above
        number = next(self._numbers)
        self._asked[number] = asked = asyncio.get_running_loop().create_future()
        wanted = {"toolCallId": f"p{number}", "title": _title(tool, facts), "kind": KINDS.get(tool, "other")}
        params = {"sessionId": self._session, "toolCall": wanted, "options": OPTIONS}
        self._say({"id": number, "method": "session/request_permission", "params": params})
        outcome = ((await asked) or {}).get("outcome") or {}
        if outcome.get("optionId") == ALLOW:
            return self._sdk.PermissionResultAllow(updated_input=facts)
        return self._sdk.PermissionResultDeny(message="The owner of this machine does not allow that.")

    def _hear(self, message: Any) -> None:  # noqa: ANN401 - as above
        content = getattr(message, "content", None)
        for block in content if isinstance(content, list) else ():
            match type(block).__name__:
                case "TextBlock" if type(message).__name__ == "AssistantMessage":
                    self._tell("agent_message_chunk", content={"type": "text", "text": f"{block.text}\n"})
                case "ThinkingBlock":
                    self._tell("agent_thought_chunk", content={"type": "text", "text": f"{block.thinking}\n"})
                case "ToolUseBlock":
                    title = _title(block.name, block.input)
                    self._tell("tool_call", toolCallId=block.id, title=title, kind=KINDS.get(block.name, "other"))
                case "ToolResultBlock":
                    self._tell("tool_call_update", toolCallId=block.tool_use_id, **_result(block))
                case _:
                    pass

    def _ended(self, message: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
        usage = message.usage or {}
        names = {"inputTokens": "input_tokens", "outputTokens": "output_tokens"}
        names |= {"cachedReadTokens": "cache_read_input_tokens", "cachedWriteTokens": "cache_creation_input_tokens"}
        counts = {ours: int(usage.get(theirs) or 0) for ours, theirs in names.items()}
        if message.total_cost_usd is not None:
            self._tell("usage_update", used=0, size=0, cost={"amount": message.total_cost_usd, "currency": "USD"})
        if str(message.terminal_reason or "").startswith("aborted"):
            reason = "cancelled"
        elif message.subtype == "error_max_turns":
            reason = "max_turn_requests"
        elif message.is_error:
            raise self._sdk.ClaudeSDKError(message.result or "; ".join(message.errors or ()) or message.subtype)
        else:
            reason = "end_turn"
        return {"stopReason": reason, "usage": {**counts, "totalTokens": sum(counts.values())}}


def _title(tool: str, facts: dict[str, Any]) -> str:
    shown = facts.get("command") or facts.get("file_path") or facts.get("pattern") or facts.get("url") or ""
    return f"{tool} {shown}".strip()


def _result(block: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    parts = block.content if isinstance(block.content, list) else [{"text": block.content or ""}]
    text = "\n".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
    content = [{"type": "content", "content": {"type": "text", "text": text[:2_000]}}]
    return {"status": "failed" if block.is_error else "completed", "content": content}


async def main() -> None:
    """Serve the client at our standard input and output."""
    lines = asyncio.StreamReader(limit=64 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    await Agent(importlib.import_module("claude_agent_sdk")).serve(lines)


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    for name in [name for name in os.environ if name.startswith("CLAUDECODE")]:
        del os.environ[name]  # it would take itself for a part of another one
    asyncio.run(main())

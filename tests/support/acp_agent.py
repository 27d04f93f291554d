"""A coding agent that does what a script says, speaking the protocol by an implementation that is not ours.

Run as a file of its own, with the path of a script: ``{"load": true|false, "resume": true|false, "models": [NAME],
"prompts": [[STEP, ...], ...]}``. The n-th prompt of a session does the n-th list of steps, across starts. Each step is
an object with one key: ``say``, ``read``, ``write`` (path, content), ``replace`` (path, old, new), ``run`` (command,
args, cwd, kill, limit), ``ask`` (kind), ``model`` (of Claude, which is asked what to do), ``count`` (tokens),
``cost``, ``hang`` (whether it obeys), ``crash``, ``stop``. What happened goes to ``heard.jsonl`` beside the script.
"""

import asyncio
import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

import acp
from acp import schema

MEMORY = Path(os.environ.get("HOME", "/nowhere")) / "scripted-agent.json"


class Scripted:
    """The agent; the package finds its methods by their names."""

    def __init__(self, script: Path) -> None:
        self._folder = script.parent
        self._plan = json.loads(script.read_text())
        self._client: Any = None
        self._prompts, self._cwd, self._cancelled = 0, "", asyncio.Event()
        self._usage: schema.Usage | None = None

    def on_connect(self, conn: Any) -> None:  # noqa: ANN401 - the interface of the package
        """Keep the line to the client."""
        self._client = conn

    def _note(self, what: str, **facts: Any) -> None:
        with (self._folder / "heard.jsonl").open("a") as file:
            file.write(json.dumps({"what": what, **facts}) + "\n")

    async def initialize(
        self,
        protocol_version: int,
        client_capabilities: schema.ClientCapabilities | None = None,
        client_info: schema.Implementation | None = None,
        **_more: Any,
    ) -> schema.InitializeResponse:
        """Say what it can do."""
        assert client_capabilities is not None
        assert client_info is not None
        fs = client_capabilities.fs
        assert fs is not None
        self._note(
            "initialize", terminal=client_capabilities.terminal, reads=fs.read_text_file, client=client_info.name
        )
        able = schema.SessionCapabilities(
            resume=schema.SessionResumeCapabilities() if self._plan.get("resume") else None
        )
        return schema.InitializeResponse(
            protocol_version=min(protocol_version, acp.PROTOCOL_VERSION),
            agent_capabilities=schema.AgentCapabilities(
                load_session=bool(self._plan.get("load")), session_capabilities=able
            ),
            agent_info=schema.Implementation(name="scripted", version="1"),
        )

    async def new_session(self, cwd: str, **_more: Any) -> schema.NewSessionResponse:
        """Begin; with a choice of models if the script has some."""
        self._cwd = cwd
        self._note("new", cwd=cwd)
        if self._plan.get("unready"):
            raise acp.RequestError.auth_required()
        return schema.NewSessionResponse(session_id="s-1", config_options=self._settings())

    def _settings(self) -> Any:  # noqa: ANN401 - as the package has it
        models = self._plan.get("models")
        if not models:
            return None
        options = [schema.SessionConfigSelectOption(value=name, name=name) for name in models]
        return [
            schema.SessionConfigOptionSelect(
                id="m", name="Model", category="model", type="select", current_value=models[0], options=options
            )
        ]

    async def set_config_option(self, config_id: str, session_id: str, value: Any, **_more: Any) -> Any:  # noqa: ANN401 - the interface of the package
        """Choose a model."""
        self._note("set", config=config_id, session=session_id, value=value)
        if value not in self._plan["models"]:
            raise acp.RequestError.invalid_params({"value": value})
        return schema.SetSessionConfigOptionResponse(config_options=self._settings())

    async def load_session(self, cwd: str, session_id: str, **_more: Any) -> schema.LoadSessionResponse:
        """Go on with a session of an earlier start, telling again what was said in it."""
        self._again("load", cwd, session_id)
        await self._client.session_update(session_id, acp.update_agent_message_text("said before"))
        return schema.LoadSessionResponse()

    async def resume_session(self, session_id: str, cwd: str, **_more: Any) -> schema.ResumeSessionResponse:
        """Go on with a session of an earlier start."""
        self._again("resume", cwd, session_id)
        return schema.ResumeSessionResponse()

    def _again(self, how: str, cwd: str, session: str) -> None:
        self._cwd = cwd
        self._note(how, session=session)
        if not MEMORY.exists():
            raise acp.RequestError(-32002, "no such session")
        self._prompts = json.loads(MEMORY.read_text())["prompts"]

    async def cancel(self, session_id: str, **_more: Any) -> None:
        """Stop."""
        self._note("cancel", session=session_id)
        self._cancelled.set()

    async def prompt(self, session_id: str, prompt: list[Any], **_more: Any) -> schema.PromptResponse:
        """Do what the script says."""
        self._note("prompt", text=prompt[0].text)
        steps = self._plan["prompts"][self._prompts]
        self._prompts += 1
        MEMORY.write_text(json.dumps({"prompts": self._prompts}))
        for number, step in enumerate(steps):
            ((name, facts),) = step.items()
            if name == "stop":
                return schema.PromptResponse(stop_reason=facts, usage=self._usage)
            await getattr(self, f"_{name}")(session_id, facts, f"call-{number}")
            if self._cancelled.is_set():
                return schema.PromptResponse(stop_reason="cancelled", usage=self._usage)
        return schema.PromptResponse(stop_reason="end_turn", usage=self._usage)

    # --- steps --------------------------------------------------------------------------------------------------------

    async def _say(self, session: str, text: str, _call: str) -> None:
        await self._client.session_update(session, acp.update_agent_message_text(text))

    async def _cost(self, session: str, usd: float, _call: str) -> None:
        cost = schema.Cost(amount=usd, currency="USD")
        update = schema.UsageUpdate(session_update="usage_update", used=10, size=1000, cost=cost)
        await self._client.session_update(session, update)

    async def _read(self, session: str, path: str, call: str) -> None:
        await self._client.session_update(session, acp.start_read_tool_call(call, f"Read {path}", path))
        try:
            found = await self._client.read_text_file(session_id=session, path=self._whole(path))
            self._note("read", path=path, content=found.content)
        except acp.RequestError as exc:
            self._note("refused", path=path, code=exc.code, why=str(exc))

    async def _write(self, session: str, facts: dict[str, str], _call: str) -> None:
        try:
            await self._client.write_text_file(
                session_id=session, path=self._whole(facts["path"]), content=facts["content"]
            )
        except acp.RequestError as exc:
            self._note("refused", path=facts["path"], code=exc.code, why=str(exc))

    async def _replace(self, session: str, facts: dict[str, str], call: str) -> None:
        path = self._whole(facts["path"])
        await self._client.session_update(session, acp.start_edit_tool_call(call, f"Edit {facts['path']}", path, ""))
        found = await self._client.read_text_file(session_id=session, path=path)
        fixed = found.content.replace(facts["old"], facts["new"])
        await self._client.write_text_file(session_id=session, path=path, content=fixed)
        await self._client.session_update(session, acp.update_tool_call(call, status="completed"))

    async def _run(self, session: str, facts: dict[str, Any], _call: str) -> None:
        made = await self._client.create_terminal(
            session_id=session,
            command=facts["command"],
            args=facts.get("args"),
            cwd=facts.get("cwd"),
            env=[schema.EnvVariable(name="GIVEN", value="yes")],
            output_byte_limit=facts.get("limit"),
        )
        terminal = {"session_id": session, "terminal_id": made.terminal_id}
        if facts.get("kill"):
            await self._client.kill_terminal(**terminal)
        ended = await self._client.wait_for_terminal_exit(**terminal)
        said = await self._client.terminal_output(**terminal)
        self._note("ran", code=ended.exit_code, signal=ended.signal, output=said.output, cut=said.truncated)
        await self._client.release_terminal(**terminal)

    async def _ask(self, session: str, kind: Any, call: str) -> None:  # noqa: ANN401 - as the package has it
        options = [
            schema.PermissionOption(option_id="always", name="Always", kind="allow_always"),
            schema.PermissionOption(option_id="yes", name="Yes", kind="allow_once"),
            schema.PermissionOption(option_id="no", name="No", kind="reject_once"),
        ]
        wanted = schema.ToolCallUpdate(tool_call_id=call, title=f"a {kind}", kind=kind)
        answer = await self._client.request_permission(session_id=session, tool_call=wanted, options=options)
        self._note("permission", kind=kind, option=getattr(answer.outcome, "option_id", None))

    async def _model(self, session: str, model: str, call: str) -> None:
        base, key = os.environ["ANTHROPIC_BASE_URL"], os.environ["ANTHROPIC_API_KEY"]
        question = {"model": model, "max_tokens": 10, "messages": [{"role": "user", "content": "What now?"}]}
        head = {"X-Api-Key": key, "Content-Type": "application/json", "anthropic-version": "2023-06-01"}
        asked = urllib.request.Request(f"{base}/v1/messages", json.dumps(question).encode(), head)  # noqa: S310 - loopback
        with await asyncio.to_thread(urllib.request.urlopen, asked, timeout=60) as answer:
            said = json.loads(answer.read())
        await self._say(session, said["content"][0]["text"], call)

    async def _hang(self, _session: str, obeys: bool, _call: str) -> None:
        if obeys:
            await self._cancelled.wait()
        else:
            await asyncio.Event().wait()

    async def _crash(self, _session: str, code: int, _call: str) -> None:
        sys.stderr.write("out of luck\n")
        sys.stderr.flush()
        os._exit(code)

    async def _count(self, _session: str, counts: dict[str, Any], _call: str) -> None:
        self._usage = schema.Usage(**counts)

    def _whole(self, path: str) -> str:
        return path if path.startswith("/") else f"{self._cwd}/{path}"


if __name__ == "__main__":
    agent: Any = Scripted(Path(sys.argv[1]))
    asyncio.run(acp.run_agent(agent, use_unstable_protocol=True))

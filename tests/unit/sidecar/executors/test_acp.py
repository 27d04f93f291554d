"""The executor ``acp`` with real programs as agents: one by an implementation that is not ours, and bad ones."""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocol.model import Budget, FailureClass, Finding, Iteration, TaskSpec
from sidecar.core.programs import AgentProgram
from sidecar.executors.acp import AcpExecutor
from sidecar.executors.base import Execution
from tests.support.attempts import ATTEMPT, Bench

AGENT = Path(__file__).parents[3] / "support" / "acp_agent.py"
TASK = TaskSpec(prompt="mend it", executor="acp")
# An agent in a few lines, which says on stderr what it is asked. BODY begins at the prompt, ELSE at what else comes.
PLAIN = """
import json, sys, time
def say(text): sys.stdout.write(text + "\\n"); sys.stdout.flush()
def answer(number, result): say(json.dumps({"jsonrpc": "2.0", "id": number, "result": result}))
def fail(number, text): say(json.dumps({"id": number, "error": {"code": -32000, "message": text}}))
for line in sys.stdin:
    asked = json.loads(line)
    method, number, params = asked.get("method"), asked.get("id"), asked.get("params")
    sys.stderr.write(f"[{method}]\\n")
    if method == "initialize": answer(number, {"protocolVersion": 1, **HELLO})
    elif method == "session/new": answer(number, {"sessionId": "s", **SESSION})
    elif method == "session/prompt":
        BODY
    else:
        ELSE
"""
DONE = "answer(number, {'stopReason': 'end_turn'})"


class Stage:
    """An executor with one scripted agent."""

    def __init__(self, bench: Bench, folder: Path, **more: Any) -> None:
        self.bench, self.script = bench, folder / "script.json"
        command = (sys.executable, str(AGENT), str(self.script))
        self.executor = AcpExecutor([AgentProgram("scripted", command, **more)])
        self.cell = bench.cell

    def play(self, *prompts: list[dict[str, Any]], **more: Any) -> None:
        self.script.write_text(json.dumps({"prompts": prompts, **more}))

    async def execute(self, spec: TaskSpec = TASK, **more: Any) -> Execution:
        work = replace(self.bench.work(spec, **more), cell=self.cell)  # one for all iterations, as an attempt has it
        return await self.executor.execute(work)

    def heard(self, what: str) -> list[dict[str, Any]]:
        lines = (self.script.parent / "heard.jsonl").read_text().splitlines()
        return [entry for entry in map(json.loads, lines) if entry["what"] == what]


@pytest.fixture
def stage(bench: Bench, tmp_path: Path) -> Stage:
    return Stage(bench, tmp_path)


def plain(
    body: str = DONE,
    other: str = "answer(number, {})",
    *,
    hello: dict[str, Any] | None = None,
    session: dict[str, Any] | None = None,
    **more: Any,
) -> AcpExecutor:
    """An executor with one agent in a few lines."""
    source = PLAIN.replace("BODY", body).replace("ELSE", other)
    source = source.replace("HELLO", repr(hello or {})).replace("SESSION", repr(session or {}))
    return AcpExecutor([AgentProgram("plain", (sys.executable, "-I", "-S", "-c", source), **more)])


def asked(bench: Bench) -> list[str]:
    """What the agent in a few lines was asked."""
    return [line[1:-1] for line in bench.output.splitlines() if line.startswith("[")]


async def test_an_agent_works_on_files_with_terminals_and_by_permission(stage: Stage) -> None:
    stage.executor = AcpExecutor(
        [AgentProgram("scripted", stage.executor.programs[0].command, denies=("fetch",), env={"X": "1"})]
    )
    (stage.bench.workspace / "a.txt").write_text("one\ntwo\n")
    stage.play(
        [
            {"say": "I look. "},
            {"read": "a.txt"},
            {"write": {"path": "sub/b.txt", "content": "new\n"}},
            {"read": "/etc/passwd"},
            {"read": "../out"},
            {"write": {"path": ".git/config", "content": "x"}},
            {"run": {"command": "echo $GIVEN; exit 3"}},
            {"run": {"command": "cat", "args": ["b.txt"], "cwd": str(stage.bench.workspace / "sub")}},
            {"run": {"command": "sleep 60", "kill": True}},
            {"run": {"command": "printf 0123456789", "limit": 4}},
            {"ask": "edit"},
            {"ask": "fetch"},
            {"count": {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}},
            {"cost": 0.25},
            {"say": "All done."},
        ]
    )
    done = await stage.execute()

    assert (done.ok, done.summary, done.error) == (True, "All done.", "")
    assert "I look. \n> Read a.txt\n" in done.output
    assert (done.usage.model, done.usage.input_tokens, done.usage.output_tokens) == ("scripted", 100, 20)
    assert done.usage.cost_usd == 0.25
    assert (stage.bench.workspace / "sub/b.txt").read_text() == "new\n"
    (hello,) = stage.heard("initialize")
    assert (hello["terminal"], hello["reads"], hello["client"]) == (True, True, "agentcom")
    assert [entry["content"] for entry in stage.heard("read")] == ["one\ntwo\n"]
    assert [entry["path"] for entry in stage.heard("refused")] == ["/etc/passwd", "../out", ".git/config"]
    ran = [(entry["code"], entry["signal"], entry["output"], entry["cut"]) for entry in stage.heard("ran")]
    assert ran == [
        (3, None, "yes\n", False),
        (0, None, "new\n", False),
        (None, "SIGKILL", "", False),
        (0, None, "6789", True),
    ]
    assert [(entry["kind"], entry["option"]) for entry in stage.heard("permission")] == [
        ("edit", "yes"),
        ("fetch", "no"),
    ]
    assert "[refused: fetch a fetch]" in done.output
    assert "mend it" in stage.heard("prompt")[0]["text"]
    assert await stage.bench.processes.end_attempt(ATTEMPT) == 0


FAILED = Finding(name="tests", type="test_passes", passed=False, detail="3 failed")
BEFORE = Iteration(number=1, execution_ok=True, passed=False, findings=(FAILED,))


async def test_the_next_iteration_goes_on_with_the_session_and_is_told_what_failed(stage: Stage) -> None:
    stage.play([{"cost": 0.25}], [{"cost": 0.75}], resume=True)
    first = await stage.execute()
    again = await stage.execute(previous=BEFORE)
    told = [entry["text"] for entry in stage.heard("prompt")]

    assert (first.ok, again.ok) == (True, True)
    assert "mend it" in told[0]
    assert "mend it" not in told[1]
    assert "FAILED (1):\n- tests (test_passes): 3 failed" in told[1]
    assert [entry["session"] for entry in stage.heard("resume")] == ["s-1"]
    assert (first.usage.cost_usd, again.usage.cost_usd) == (0.25, 0.5)  # the agent counts the whole session


BEGUN = ["initialize", "session/new", "session/prompt"]
GONE_ON = ["initialize", "session/load", "session/prompt"]
PAST = json.dumps(
    {"method": "session/update", "params": {"update": {"sessionUpdate": "tool_call", "title": "of the past"}}}
)


@pytest.mark.parametrize(
    "loads, other, second, is_told_all",
    [
        (True, f"say({PAST!r}); answer(number, None)", GONE_ON, False),
        (False, "", BEGUN, True),
        (True, "fail(number, 'it is lost')", ["initialize", "session/load", "session/new", "session/prompt"], True),
    ],
)
async def test_who_cannot_go_on_with_a_session_is_told_the_whole_task_again(
    bench: Bench, loads: bool, other: str, second: list[str], is_told_all: bool
) -> None:
    body = f"sys.stderr.write('it knows\\n' * ('mend it' in line)); {DONE}"
    executor = plain(body, other or "pass", hello={"agentCapabilities": {"loadSession": loads}})
    cell = bench.cell
    for previous in (None, BEFORE):
        done = await executor.execute(replace(bench.work(TASK, previous=previous), cell=cell))
        assert done.ok, done.error

    assert asked(bench) == [*BEGUN, *second]
    assert bench.output.count("it knows") == (2 if is_told_all else 1)
    assert "of the past" not in bench.output


async def test_a_task_may_name_the_model_where_the_agent_has_a_choice(bench: Bench) -> None:
    settings = [{"id": "x", "category": "mode"}, {"id": "m", "category": "model", "currentValue": "small"}]
    obeys = "fail(number, 'no such model') if params['value'] == 'none' else answer(number, {})"
    chooser = plain(DONE, obeys, session={"configOptions": settings})
    results = [
        await executor.execute(bench.work(TaskSpec(prompt="x", executor="acp", model=model)))
        for executor, model in ((chooser, ""), (chooser, "large"), (chooser, "none"), (plain(), "large"))
    ]

    assert [(done.ok, done.usage.model) for done in results] == [
        (True, "small"),
        (True, "large"),
        (False, "small"),
        (False, "plain"),
    ]
    assert [(done.error_code, done.failure) for done in results[2:]] == [("agent_refused", FailureClass.AGENT)] * 2
    assert "offers no choice of models" in results[3].error


async def test_cancelling_tells_the_agent_and_leaves_no_process(bench: Bench) -> None:
    running = asyncio.create_task(plain("pass").execute(bench.work(TASK)))
    async with asyncio.timeout(60):
        await bench.until_logged("[session/prompt]")
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert await bench.processes.end_attempt(ATTEMPT) == 0


async def test_time_that_is_up_is_told_to_the_agent_which_says_what_it_has_used(bench: Bench) -> None:
    used = {"stopReason": "cancelled", "usage": {"inputTokens": 7, "outputTokens": 1, "totalTokens": 8}}
    executor = plain("mine = number", f"answer(mine, {used!r})")
    done = await executor.execute(bench.work(TASK, deadline_s=1.0))

    assert (done.ok, done.failure, done.error_code) == (False, FailureClass.BUDGET, "budget_spent")
    assert asked(bench)[-1] == "session/cancel"
    assert done.usage.input_tokens == 7


@pytest.mark.parametrize(
    "body, code, why",
    [
        (
            "sys.stderr.write('out of luck\\n'); sys.exit(3)",
            "agent_crashed",
            "exit code 3 in the middle of its work: out",
        ),
        ("sys.exit(0)", "agent_crashed", "exit code 0"),
        ("sys.stdout.write('x' * (17 << 20)); sys.stdout.flush(); time.sleep(60)", "agent_garbled", "16 MiB"),
        ("say('nonsense\\n' * 1100); time.sleep(60)", "agent_garbled", "no messages"),
        ("answer(number, {})", "agent_garbled", "stopReason"),
        ("answer(number, {'stopReason': 'refusal'})", "agent_stopped", "refusal"),
        (
            "fail(number, 'log in')",
            "agent_refused",
            "log in",
        ),
    ],
)
async def test_an_agent_that_fails_is_told_by_how(bench: Bench, body: str, code: str, why: str) -> None:
    done = await plain(body).execute(bench.work(TASK))

    assert (done.ok, done.failure, done.error_code) == (False, FailureClass.AGENT, code)
    assert why in done.error
    assert await bench.processes.end_attempt(ATTEMPT) == 0


async def test_an_agent_that_says_nothing_is_given_up(bench: Bench) -> None:
    done = await plain("time.sleep(60)", silence_s=1.0).execute(bench.work(TASK))

    assert (done.ok, done.error_code) == (False, "agent_silent")


async def test_an_agent_that_never_stops_talking_ends_with_its_time_and_takes_no_memory(bench: Bench) -> None:
    chunk = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "x" * 1_000}}
    news = json.dumps({"method": "session/update", "params": {"update": chunk}})
    body = f"while True: say({news!r})"
    executor = plain(body)
    executor.cancel_s = 0.1
    done = await executor.execute(bench.work(TASK, deadline_s=1.0))

    assert (done.ok, done.error_code) == (False, "budget_spent")
    assert len(done.output) <= 64 << 10


@pytest.mark.parametrize("version", [0, 2, "new"])
async def test_another_version_of_the_protocol_is_refused(bench: Bench, version: object) -> None:
    done = await plain(hello={"protocolVersion": version}).execute(bench.work(TASK))

    assert (done.ok, done.error_code) == (False, "agent_garbled")


async def test_an_agent_that_is_not_there_is_no_fault_of_the_work(bench: Bench) -> None:
    gone = AcpExecutor([AgentProgram("gone", ("no-such-agent-here",))])
    done = await gone.execute(bench.work(TASK))
    other = await gone.execute(bench.work(TaskSpec(prompt="x", executor="acp", needs=("agent:mine",))))

    assert (done.failure, done.error_code) == (FailureClass.INFRA, "cannot_start")
    assert (other.failure, other.error_code) == (FailureClass.INFRA, "agent_missing")


async def test_a_budget_in_dollars_that_nobody_could_keep_is_refused(bench: Bench) -> None:
    done = await plain("pass").execute(bench.work(TASK, remaining=Budget(usd=1.0)))

    assert (done.failure, done.error_code) == (FailureClass.BUDGET, "agent_unmetered")


async def test_a_task_gets_the_agent_that_it_names(bench: Bench) -> None:
    both = AcpExecutor([AgentProgram(name, ("/bin/sh", "-c", f"echo {name} >&2; exit 1")) for name in ("one", "two")])
    await both.execute(bench.work(TaskSpec(prompt="x", executor="acp", needs=("agent:two",))))

    assert bench.output == "two\n"

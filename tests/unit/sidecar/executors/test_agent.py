import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from protocol.checks import CheckTestPasses
from protocol.model import Budget, Context, EndpointKind, FailureClass, TaskSpec
from sidecar.executors.agent import AgentExecutor
from sidecar.executors.transcript import Transcript, written
from sidecar.llm.endpoints import Endpoints, EndpointSettings
from sidecar.verifier import verify
from tests.support.attempts import ATTEMPT, Bench
from tests.support.ollama_server import Model, OllamaServer, Reply

if TYPE_CHECKING:
    from llmock.pytest_plugin import LLMock

TASK = TaskSpec(prompt="make the test pass", context=Context(files=("calc.py",)))


def call(name: str, **arguments: Any) -> Reply:
    return Reply(tool_calls=((name, arguments),))


@pytest.fixture
def agent(endpoints: Endpoints) -> AgentExecutor:
    return AgentExecutor(endpoints, max_turns=8)


@pytest.fixture
def broken(bench: Bench) -> Bench:
    (bench.workspace / "calc.py").write_text("def add(a, b):\n    return a - b\n")
    (bench.workspace / "check.sh").write_text('test "$(python3 -Bc "import calc; print(calc.add(2, 3))")" = 5\n')
    return bench


async def test_a_model_with_tools_repairs_a_file_and_the_check_proves_it(
    broken: Bench, agent: AgentExecutor, ollama: OllamaServer
) -> None:
    ollama.script = [
        call("list"),
        call("read", path="calc.py"),
        call("run", command="sh check.sh"),
        call("search", text="a - b"),
        call("edit", path="calc.py", old="a - b", new="a + b"),
        call("run", command="sh check.sh"),
        call("finish", summary="add subtracted; now it adds"),
    ]

    done = await agent.execute(broken.work(TASK, endpoint="box"))
    (found,) = await verify((CheckTestPasses(command="sh check.sh"),), broken.ground())

    assert done.ok
    assert done.summary == "add subtracted; now it adds"
    assert found.passed
    assert (broken.workspace / "calc.py").read_text() == "def add(a, b):\n    return a + b\n"
    results = [m["content"] for m in ollama.requests[-1]["messages"] if m["role"] == "tool"]
    assert results[0] == "calc.py\ncheck.sh"
    assert results[2].startswith("exit code 1")
    assert results[3] == "calc.py:2:    return a - b"
    assert results[5].startswith("exit code 0")
    assert done.usage.output_tokens > 0
    assert done.usage.cost_usd == 0.0
    assert "> edit " in done.output


async def test_calls_that_are_written_as_text_are_done_too(
    broken: Bench, agent: AgentExecutor, ollama: OllamaServer
) -> None:
    ollama.script = [
        Reply('I fix it.\n```json\n{"name": "write", "arguments": {"path": "x", "content": "1"}}\n```'),
        Reply('{"name": "finish", "arguments": {"summary": "done"}}'),
    ]

    done = await agent.execute(broken.work(TASK, endpoint="box"))

    assert (done.ok, done.summary) == (True, "done")
    assert (broken.workspace / "x").read_text() == "1"


async def test_half_a_character_in_a_call_ends_nothing(
    broken: Bench, agent: AgentExecutor, ollama: OllamaServer
) -> None:
    (broken.workspace / os.fsdecode(b"name-\xff")).touch()
    ollama.script = [
        Reply('{"name": "write", "arguments": {"path": "x", "content": "half \\ud800"}}'),
        call("list"),
        Reply('{"name": "finish", "arguments": {"summary": "done \\ud800"}}'),
    ]
    turns: list[Transcript] = []

    async def turned(transcript: Transcript) -> None:
        turns.append(transcript)

    done = await agent.execute(replace(broken.work(TASK, endpoint="box"), turned=turned))

    assert (done.ok, done.summary) == (True, "done \ufffd")
    assert (broken.workspace / "x").read_text() == "half \ufffd"
    assert len(msgspec.json.encode([written(turn) for turn in turns])) > 0


async def test_a_model_that_cannot_call_tools_is_told_to_write_them(
    broken: Bench, agent: AgentExecutor, ollama: OllamaServer
) -> None:
    ollama.models = [Model("qwen3:8b", tools=False)]
    ollama.script = [
        Reply('```json\n{"name": "read", "arguments": {"path": "calc.py"}}\n```'),
        Reply('```json\n{"name": "finish", "arguments": {"summary": "seen"}}\n```'),
    ]

    done = await agent.execute(broken.work(TASK, endpoint="box"))

    assert (done.ok, done.summary) == (True, "seen")
    system, *turns = ollama.requests[-1]["messages"]
    assert "To use a tool, answer with nothing but one JSON object" in system["content"]
    assert turns[-1]["role"] == "user"
    assert turns[-1]["content"].startswith("Result of read:\ncalc.py: lines 1 to 2")


async def test_a_model_with_tools_begins_with_a_map_of_the_workspace(
    broken: Bench, agent: AgentExecutor, ollama: OllamaServer
) -> None:
    for name, text in {"pkg/deep/a.py": "def alpha():\n    pass\n", "node_modules/x.js": "", ".cache/y.py": ""}.items():
        (broken.workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (broken.workspace / name).write_text(text)
    (broken.workspace / "out").symlink_to("/etc")
    ollama.script = [call("finish", summary="seen")]

    await agent.execute(broken.work(TaskSpec(prompt="repair alpha"), endpoint="box"))

    said = ollama.requests[0]["messages"][-1]["content"]
    assert said.endswith(
        "Files of the workspace (3), those first that this seems to be about:\n"
        "pkg/deep/a.py: alpha\ncalc.py: add\ncheck.sh"
    )


async def test_a_model_whose_calls_all_come_to_nothing_is_stopped(broken: Bench, ollama: OllamaServer) -> None:
    numbers = iter(range(100))
    ollama.script = lambda _: call("read", path=f"none-{next(numbers)}")
    endpoints = Endpoints([EndpointSettings("box", EndpointKind.OLLAMA, ollama.url, default_model="qwen3:8b")])

    done = await AgentExecutor(endpoints).execute(broken.work(TASK, endpoint="box"))
    await endpoints.close()

    assert (done.ok, done.failure) == (False, FailureClass.AGENT)
    assert done.error == "10 turns in a row came to nothing: calls that failed, or were made before"
    assert len(ollama.requests) == 10


async def test_turns_grow_while_the_work_comes_along(broken: Bench, agent: AgentExecutor, ollama: OllamaServer) -> None:
    numbers = iter(range(100))
    ollama.script = lambda _: call("write", path=f"f{next(numbers)}", content="x")

    done = await agent.execute(broken.work(TASK, endpoint="box"))

    assert (done.failure, done.error) == (FailureClass.BUDGET, "budget of 16 turns is spent (used 16)")


async def test_a_model_that_only_talks_is_asked_once_to_go_on(
    broken: Bench, agent: AgentExecutor, ollama: OllamaServer
) -> None:
    ollama.script = [Reply("I think it is fine."), Reply("It is fine.")]

    done = await agent.execute(broken.work(TASK, endpoint="box"))

    assert (done.ok, done.summary) == (True, "It is fine.")
    assert "Go on with a tool call" in ollama.requests[1]["messages"][-1]["content"]


async def test_a_model_that_only_talks_is_held_to_the_form_of_a_call(
    broken: Bench, agent: AgentExecutor, ollama: OllamaServer
) -> None:
    ollama.script = [
        Reply("I would read calc.py first."),
        Reply('{"name": "read", "arguments": {"path": "calc.py"}}'),
        call("finish", summary="seen"),
    ]

    done = await agent.execute(broken.work(TASK, endpoint="box"))

    talked, held, after = ollama.requests
    assert (done.ok, done.summary) == (True, "seen")
    assert [bool(request.get("tools")) for request in (talked, held, after)] == [True, False, True]
    assert ["format" in request for request in (talked, held, after)] == [False, True, False]
    names = [each["properties"]["name"]["enum"][0] for each in held["format"]["anyOf"]]
    assert {"read", "edit", "finish"} <= set(names)
    assert after["messages"][-1]["content"].startswith("calc.py: lines 1 to 2")


async def test_a_server_that_knows_no_schemas_is_asked_without(
    broken: Bench, agent: AgentExecutor, ollama: OllamaServer
) -> None:
    ollama.script = [
        Reply("I would read calc.py first."),
        Reply(status=400, error="json: cannot unmarshal object into Go struct field ChatRequest.format"),
        call("finish", summary="seen"),
    ]

    done = await agent.execute(broken.work(TASK, endpoint="box"))

    assert (done.ok, done.summary) == (True, "seen")
    assert ["format" in request for request in ollama.requests] == [False, True, False]


async def test_a_model_that_says_nothing_at_all_has_failed(
    broken: Bench, agent: AgentExecutor, ollama: OllamaServer
) -> None:
    ollama.script = [Reply(""), Reply("")]

    done = await agent.execute(broken.work(TASK, endpoint="box"))

    assert (done.ok, done.failure) == (False, FailureClass.AGENT)
    assert "neither with a tool call nor with text" in done.error


async def test_mistakes_in_a_call_come_back_and_can_be_mended(
    broken: Bench, agent: AgentExecutor, ollama: OllamaServer
) -> None:
    ollama.script = [
        Reply(tool_calls=(("delete", {"path": "calc.py"}), ("read", {"file": "calc.py"}), ("finish", {}))),
        call("finish", summary="gave up"),
    ]

    done = await agent.execute(broken.work(TASK, endpoint="box"))

    results = [m["content"] for m in ollama.requests[-1]["messages"] if m["role"] == "tool"]
    assert done.summary == "gave up"
    assert results[0].startswith("error: there is no tool 'delete'; there are list, read, search, edit, write, run")
    assert "file: unknown field" in results[1]
    assert "path: is missing" in results[1]
    assert "summary: is missing" in results[2]


async def test_every_call_is_told_with_its_turn_and_how_it_went(
    broken: Bench, agent: AgentExecutor, ollama: OllamaServer
) -> None:
    ollama.script = [
        Reply(tool_calls=(("read", {"path": "calc.py"}), ("read", {"path": "none.py"}))),
        call("run", command="sh check.sh\necho done; false"),
        Reply("I am done with it."),
        call("finish", summary="seen"),
    ]
    told: list[tuple[int, list[tuple[str, str, bool]]]] = []
    work = replace(
        broken.work(TASK, endpoint="box"),
        called=lambda turn, calls: told.append((turn, [(c.tool, c.target, c.ok) for c in calls])),
    )

    assert (await agent.execute(work)).ok
    assert told == [
        (1, [("read", "calc.py", True), ("read", "none.py", False)]),
        (2, [("run", "sh check.sh", False)]),
        (4, [("finish", "", True)]),
    ]


async def test_the_same_call_over_and_over_is_told_then_ended(
    broken: Bench, agent: AgentExecutor, ollama: OllamaServer
) -> None:
    ollama.script = [Reply(tool_calls=(("read", {"path": "calc.py"}),), repeat=True)]

    done = await agent.execute(broken.work(TASK, endpoint="box"))

    assert (done.ok, done.failure) == (False, FailureClass.AGENT)
    assert done.error == "the model made the same call 4 times in a row, with the same result"
    assert "You have made this very call 3 times in a row" in ollama.requests[-1]["messages"][-1]["content"]
    assert len(ollama.requests) == 4


async def test_the_same_call_with_another_result_is_no_repetition(
    broken: Bench, agent: AgentExecutor, ollama: OllamaServer
) -> None:
    again = call("run", command="echo x >> log; wc -l < log")
    ollama.script = [again, again, again, again, again, call("finish", summary="counted")]

    assert (await agent.execute(broken.work(TASK, endpoint="box"))).ok


async def test_turns_are_bounded(broken: Bench, agent: AgentExecutor, ollama: OllamaServer) -> None:
    numbers = iter(range(100))
    ollama.script = lambda _: call("run", command=f"echo {next(numbers)}")

    done = await agent.execute(broken.work(TASK, endpoint="box"))

    assert (done.failure, done.error) == (FailureClass.BUDGET, "budget of 8 turns is spent (used 8)")
    assert len(ollama.requests) == 8


async def test_tokens_are_bounded_and_what_was_used_is_reported(
    broken: Bench, agent: AgentExecutor, ollama: OllamaServer
) -> None:
    ollama.script = [call("list"), call("list"), call("list")]

    done = await agent.execute(broken.work(TASK, endpoint="box", remaining=Budget(tokens=300)))

    assert (done.ok, done.failure, done.error_code) == (False, FailureClass.BUDGET, "budget_spent")
    assert done.usage.input_tokens + done.usage.output_tokens >= 300
    assert len(ollama.requests) == 1


async def test_seconds_are_bounded(broken: Bench, agent: AgentExecutor, ollama: OllamaServer) -> None:
    ollama.script = [call("run", command="sleep 60"), call("finish", summary="late")]

    done = await agent.execute(broken.work(TASK, endpoint="box", deadline_s=0.5))

    assert (done.ok, done.failure) == (False, FailureClass.BUDGET)
    assert len(ollama.requests) == 1


async def test_an_answer_that_was_cut_off_does_nothing(
    broken: Bench, agent: AgentExecutor, ollama: OllamaServer
) -> None:
    cut = Reply(tool_calls=(("write", {"path": "calc.py", "content": "def ad"}),), done_reason="length")
    ollama.script = [cut, call("finish", summary="ok")]

    assert (await agent.execute(broken.work(TASK, endpoint="box"))).ok
    assert "a - b" in (broken.workspace / "calc.py").read_text()
    assert "was cut off" in ollama.requests[1]["messages"][-1]["content"]


async def test_an_endpoint_that_is_gone_is_no_fault_of_the_work(broken: Bench, agent: AgentExecutor) -> None:
    done = await agent.execute(broken.work(TASK, endpoint="gone"))

    assert (done.ok, done.failure, done.error_code) == (False, FailureClass.QUOTA, "endpoint_down")


async def test_cancelling_passes_through(broken: Bench, agent: AgentExecutor, ollama: OllamaServer) -> None:
    ollama.script = [call("run", command="echo begun; sleep 60")]
    working = asyncio.create_task(agent.execute(broken.work(TASK, endpoint="box")))
    async with asyncio.timeout(5):
        await broken.until_logged("\nbegun\n")
    working.cancel()

    with pytest.raises(asyncio.CancelledError):
        await working
    assert await broken.processes.end_attempt(ATTEMPT) == 0


@pytest.mark.parametrize("kind, service", [(EndpointKind.OPENAI, "openai"), (EndpointKind.ANTHROPIC, "anthropic")])
async def test_the_hosted_protocols_carry_a_whole_flow_with_a_broken_call_in_it(
    broken: Bench, llmock: "LLMock", kind: EndpointKind, service: str
) -> None:
    settings = EndpointSettings("api", kind, llmock.base_url(service), local=False, api_key="k", default_model="gpt-5")
    endpoints = Endpoints([settings])
    llmock.call_tool("read", {"path": "calc.py"}).break_tool_call("malformed_arguments")
    llmock.call_tool("edit", {"path": "calc.py", "old": "a - b", "new": "a + b"})
    llmock.rate_limit(retry_after=0.1)
    llmock.call_tool("finish", {"summary": "now it adds"})

    done = await AgentExecutor(endpoints).execute(broken.work(TASK, endpoint="api"))

    assert (done.ok, done.summary) == (True, "now it adds")
    assert "the arguments are not valid JSON" in done.output
    assert "a + b" in (broken.workspace / "calc.py").read_text()
    llmock.assert_resilient()
    await endpoints.close()


async def test_a_conversation_that_outgrows_the_context_loses_old_results_and_never_the_task(
    broken: Bench, agent: AgentExecutor, ollama: OllamaServer
) -> None:
    ollama.models = [Model("qwen3:8b", context_tokens=8_192)]
    for number in range(5):
        (broken.workspace / f"f{number}").write_text(f"{number} is the number of this file\n" * 300)
    ollama.script = [*(call("read", path=f"f{number}") for number in range(5)), call("finish", summary="read all")]

    done = await agent.execute(broken.work(TASK, endpoint="box"))

    last = ollama.requests[-1]["messages"]
    results = [message["content"] for message in last if message["role"] == "tool"]
    assert (done.ok, done.summary) == (True, "read all")
    assert "make the test pass" in last[1]["content"]
    assert results[0].endswith("left out to save room; call read again if it is needed]")
    assert "4 is the number" in results[-1]
    assert "[the model's context is full: " in broken.output
    assert {request["options"]["num_ctx"] for request in ollama.requests} == {8_192}


async def test_a_task_that_does_not_fit_by_itself_is_refused_with_the_way_out(
    broken: Bench, agent: AgentExecutor, ollama: OllamaServer
) -> None:
    ollama.models = [Model("qwen3:8b", context_tokens=4_096)]

    done = await agent.execute(broken.work(TaskSpec(prompt="word " * 10_000), endpoint="box"))

    assert (done.ok, done.error_code) == (False, "prompt_too_long")
    assert "shorten it, name fewer files" in done.error
    assert ollama.requests == []

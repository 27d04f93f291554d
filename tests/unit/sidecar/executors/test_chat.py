import asyncio

import pytest

from protocol.model import Budget, Context, EndpointKind, FailureClass, Finding, Iteration, TaskSpec
from sidecar.executors.chat import ChatExecutor, unfenced
from sidecar.llm.endpoints import Endpoints, EndpointSettings
from tests.support.attempts import Bench
from tests.support.ollama_server import OllamaServer, Reply


@pytest.fixture
def chat(endpoints: Endpoints) -> ChatExecutor:
    return ChatExecutor(endpoints)


async def test_the_answer_is_the_output_with_what_it_cost(
    bench: Bench, chat: ChatExecutor, ollama: OllamaServer
) -> None:
    ollama.script = [Reply("Paris.\n\nIt lies on the Seine.")]

    done = await chat.execute(bench.work(TaskSpec(prompt="Capital of France?"), endpoint="box"))

    assert done.ok
    assert (done.output, done.summary) == ("Paris.\n\nIt lies on the Seine.", "Paris.")
    assert (done.usage.model, done.usage.endpoint, done.usage.cost_usd) == ("qwen3:8b", "box", 0.0)
    assert done.usage.input_tokens > 0
    assert bench.output == "Paris.\n\nIt lies on the Seine.\n"


async def test_the_model_is_told_everything_that_the_submitter_gave(
    bench: Bench, chat: ChatExecutor, ollama: OllamaServer
) -> None:
    (bench.workspace / "a.py").write_text("print('a')\n")
    (bench.workspace / "big").write_text("b" * 100_000)
    context = Context(files=("a.py", "missing.py", "../secret", "big"), notes="mind the gap")
    spec = TaskSpec(title="Explain", prompt="What does it do?", context=context, success_criteria=("it is short",))
    ollama.script = [Reply("It prints.")]

    await chat.execute(bench.work(spec, endpoint="box"))

    prompt = ollama.requests[0]["messages"][-1]["content"]
    for part in ("Explain", "What does it do?", "mind the gap", "File a.py:\n```\nprint('a')", "- it is short"):
        assert part in prompt
    assert "'missing.py' is not there" in prompt
    assert "leaves the workspace" in prompt
    assert "bytes left out" in prompt
    assert len(prompt) < 20_000


async def test_files_fill_no_more_room_than_there_is(bench: Bench, chat: ChatExecutor, ollama: OllamaServer) -> None:
    names = tuple(f"f{number}" for number in range(6))
    for name in names:
        (bench.workspace / name).write_text(" x" * 7_000)
    ollama.script = [Reply("Read.")]
    roomy = EndpointSettings("roomy", EndpointKind.OLLAMA, ollama.url, default_model="qwen3:8b", num_ctx=65_536)
    endpoints = Endpoints([roomy])

    done = await ChatExecutor(endpoints).execute(
        bench.work(TaskSpec(prompt="read", context=Context(files=names)), endpoint="roomy")
    )

    prompt = ollama.requests[0]["messages"][-1]["content"]
    assert done.ok
    assert "File f5: left out, the files before it fill the room there is" in prompt
    assert len(prompt) < 50_000
    await endpoints.close()


async def test_a_later_iteration_is_told_what_failed_and_what_passed(
    bench: Bench, chat: ChatExecutor, ollama: OllamaServer
) -> None:
    findings = (
        Finding(name="tests", type="test_passes", passed=False, output="assert 1 == 2"),
        Finding(name="builds", type="command_succeeds", passed=True),
    )
    previous = Iteration(number=1, execution_ok=True, passed=False, findings=findings)
    ollama.script = [Reply("Better.")]

    await chat.execute(bench.work(TaskSpec(prompt="do"), endpoint="box", previous=previous))

    prompt = ollama.requests[0]["messages"][-1]["content"]
    assert "assert 1 == 2" in prompt
    assert "PASSED (1), keep it so:\n- builds" in prompt


async def test_an_answer_is_saved_without_its_fence(bench: Bench, chat: ChatExecutor, ollama: OllamaServer) -> None:
    ollama.script = [Reply("```python\nprint('hi')\n```")]

    done = await chat.execute(bench.work(TaskSpec(prompt="write", save_as="src/hi.py"), endpoint="box"))

    assert done.ok
    assert (bench.workspace / "src" / "hi.py").read_text() == "print('hi')\n"
    assert done.summary == "wrote 12 bytes to src/hi.py"


async def test_a_repair_sees_the_file_that_it_is_to_repair(
    bench: Bench, chat: ChatExecutor, ollama: OllamaServer
) -> None:
    (bench.workspace / "hi.py").write_text("print('ho')\n")
    spec = TaskSpec(prompt="write", save_as="hi.py", context=Context(files=("hi.py",)))
    previous = Iteration(number=1, execution_ok=True, passed=False)
    ollama.script = [Reply("print('hi')"), Reply("print('hi')")]

    await chat.execute(bench.work(TaskSpec(prompt="write", save_as="hi.py"), endpoint="box", previous=previous))
    (bench.workspace / "hi.py").write_text("print('ho')\n")
    await chat.execute(bench.work(spec, endpoint="box", previous=previous))

    for request in ollama.requests:
        assert request["messages"][-1]["content"].count("File hi.py:\n```\nprint('ho')\n") == 1


@pytest.mark.parametrize("path", ["../out", "/etc/x", ".git/hooks/pre-commit", "link/x"])
async def test_an_answer_is_saved_nowhere_else(
    bench: Bench, chat: ChatExecutor, ollama: OllamaServer, path: str
) -> None:
    (bench.workspace / "link").symlink_to(bench.scratch)
    ollama.script = [Reply("text")]

    done = await chat.execute(bench.work(TaskSpec(prompt="write", save_as=path), endpoint="box"))

    assert (done.ok, done.failure, done.error_code) == (False, FailureClass.INPUT, "cannot_save")
    assert not [path for path in bench.scratch.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "answer, inside",
    [
        ("```\na\nb\n```", "a\nb"),
        ("\n```python title\nx\n```\n", "x"),
        ("~~~\nx\n~~~", "x"),
        ("````md\n```\ninner\n```\n````", "```\ninner\n```"),
        ("Here:\n```\nx\n```", "Here:\n```\nx\n```"),
        ("```\na\n```\nand\n```\nb\n```", "```\na\n```\nand\n```\nb\n```"),
        ("plain", "plain"),
        ("```\n```", ""),
    ],
)
def test_only_a_fence_around_the_whole_answer_is_taken_off(answer: str, inside: str) -> None:
    assert unfenced(answer) == inside


@pytest.mark.parametrize(
    "reply, code",
    [
        (Reply("half of", done_reason="length"), "model_failed"),
        (Reply("   "), "model_failed"),
        (Reply(status=400, error="bad"), "model_failed"),
    ],
)
async def test_an_answer_that_cannot_be_used_is_the_works_failure(
    bench: Bench, chat: ChatExecutor, ollama: OllamaServer, reply: Reply, code: str
) -> None:
    ollama.script = [reply]

    done = await chat.execute(bench.work(TaskSpec(prompt="x", save_as="a.txt"), endpoint="box"))

    assert (done.ok, done.failure, done.error_code) == (False, FailureClass.AGENT, code)
    assert not (bench.workspace / "a.txt").exists()


@pytest.mark.parametrize("endpoint, code", [("gone", "endpoint_down"), ("nobody", "endpoint_refused")])
async def test_an_endpoint_that_is_not_there_is_no_fault_of_the_work(
    bench: Bench, chat: ChatExecutor, endpoint: str, code: str
) -> None:
    done = await chat.execute(bench.work(TaskSpec(prompt="x"), endpoint=endpoint))

    assert (done.ok, done.failure, done.error_code) == (False, FailureClass.QUOTA, code)
    assert endpoint in done.error


async def test_a_spent_budget_asks_nobody(bench: Bench, chat: ChatExecutor, ollama: OllamaServer) -> None:
    done = await chat.execute(bench.work(TaskSpec(prompt="x"), endpoint="box", remaining=Budget(tokens=0)))

    assert (done.ok, done.failure) == (False, FailureClass.BUDGET)
    assert ollama.requests == []


async def test_an_answer_that_takes_too_long_has_spent_the_budget(
    bench: Bench, chat: ChatExecutor, ollama: OllamaServer
) -> None:
    ollama.script = [Reply("never whole", hold=asyncio.Event())]

    done = await chat.execute(bench.work(TaskSpec(prompt="x"), endpoint="box", deadline_s=0.3))

    assert (done.ok, done.failure) == (False, FailureClass.BUDGET)

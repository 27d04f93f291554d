"""The promises of the runner: real executors, real processes, real git; only the line to the hub is a list."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from msgspec import Raw
from structlog.testing import capture_logs

from protocol import codec
from protocol.limits import MAX_RESULT_BYTES
from protocol.messages import Accept, Assign, Cancel, Log, Message, Progress, Reject, Report
from protocol.model import (
    AttemptId,
    AttemptState,
    Budget,
    CheckCommandSucceeds,
    CheckFileExists,
    CheckGitClean,
    Context,
    FailureClass,
    Routing,
    TaskResult,
    TaskSpec,
    Tier,
    TierDecision,
    Usage,
)
from sidecar.clock import SystemClock
from sidecar.executors import executors
from sidecar.executors.base import Execution, Work
from sidecar.journal import Journal
from sidecar.llm.endpoints import Endpoints
from sidecar.process import Processes, minimal_env
from sidecar.rounds import Parts
from sidecar.runner import Runner
from sidecar.workspace import Workspaces

Kind = TypeVar("Kind", bound=Message)
TIER = TierDecision(explicit=None, inferred=Tier.TRIVIAL, effective=Tier.TRIVIAL, confidence=1, signals=())
PATIENCE_S = 20.0


@dataclass
class Sent:
    """A line that keeps what is sent."""

    messages: list[Message] = field(default_factory=list)
    log_room: int = 1 << 20
    touched: int = 0
    beats: int = 0

    def __post_init__(self) -> None:
        self._changed = asyncio.Event()

    def send(self, message: Message) -> None:
        self.messages.append(message)
        self._changed.set()

    def touch(self) -> None:
        self.touched += 1

    def beat(self) -> None:
        self.beats += 1

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [message for message in self.messages if isinstance(message, kind)]

    async def until(self, fact: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not fact():
                self._changed.clear()
                await self._changed.wait()

    @property
    def output(self) -> str:
        return "".join(message.text for message in self.of(Log))


class Spender:
    """An executor that uses up what it is told to, and fails the way it is told to."""

    name = "spender"

    def __init__(self, usage: Usage, failure: FailureClass | None = None, bug: Exception | None = None) -> None:
        self.usage, self.failure, self.bug = usage, failure, bug
        self.works: list[Work] = []

    async def execute(self, work: Work) -> Execution:
        self.works.append(work)
        if self.bug is not None:
            raise self.bug
        return Execution(
            ok=self.failure is None, output="done", summary="done", usage=self.usage, failure=self.failure,
            error="down" if self.failure else "", error_code="endpoint_down" if self.failure else "",
        )  # fmt: skip


@dataclass
class Bench:
    """A runner with everything real around it."""

    runner: Runner
    sent: Sent
    journal: Journal
    parts: Parts
    folder: Path

    async def report(self, spec: TaskSpec, number: int = 1, executor: str = "shell") -> Report:
        self.runner.assigned(assign(spec, number, executor))
        await self.sent.until(lambda: self.sent.of(Report))
        return self.sent.of(Report)[-1]


def attempt(number: int = 1, epoch: int = 1) -> AttemptId:
    return AttemptId("Arbitrary", 5, f"{number:026}", epoch)


def assign(spec: TaskSpec, number: int = 1, executor: str = "shell", epoch: int = 1) -> Assign:
    routing = Routing(tier=TIER, executor=executor)
    return Assign(attempt=attempt(number, epoch), spec=Raw(codec.encode_spec(spec)), routing=routing, lease_s=30)


def make(folder: Path, slots: int = 2) -> Bench:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    processes = Processes(base_env=minimal_env(os.environ, home=home), grace_s=0.2, drain_s=0.2)
    workspaces, endpoints = Workspaces(folder / "work", processes), Endpoints(())
    parts = Parts(processes, workspaces, executors(endpoints), folder / "scratch", SystemClock(), endpoints)
    sent = Sent()
    journal = Journal(folder / "journal.db")
    return Bench(Runner("Arbitrary", slots, parts, journal, sent), sent, journal, parts, folder)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = make(tmp_path)
    yield bench
    await bench.runner.stop()
    bench.journal.close()


def git(*words: str, cwd: Path) -> str:
    env = minimal_env(os.environ, home=cwd)
    return subprocess.run(["git", *words], cwd=cwd, env=env, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A bare repository with one commit on main."""
    work, bare = tmp_path / "origin-work", tmp_path / "origin.git"
    work.mkdir()
    git("init", "-q", "-b", "main", cwd=work)
    (work / "README").write_text("hello\n")
    git("add", ".", cwd=work)
    git("commit", "-q", "-m", "first", cwd=work)
    git("clone", "-q", "--bare", str(work), str(bare), cwd=tmp_path)
    return bare


# --- the good case ----------------------------------------------------------------------------------------------------


async def test_a_shell_task_is_accepted_worked_on_checked_and_reported(bench: Bench) -> None:
    spec = TaskSpec(command="echo hello > made; echo said", verification=(CheckFileExists(path="made"),))
    report = await bench.report(spec)

    assert [type(message) for message in bench.sent.messages if not isinstance(message, Log)] == [
        Accept, Progress, Progress, Report,
    ]  # fmt: skip
    assert [(m.state, m.iteration) for m in bench.sent.of(Progress)] == [
        (AttemptState.RUNNING, 1), (AttemptState.VERIFYING, 1),
    ]  # fmt: skip
    assert (report.state, report.failure) == (AttemptState.PASSED, None)
    assert (report.result.execution_ok, report.result.verified, report.result.exit_code) == (True, True, 0)
    assert report.result.usage.model == "none"
    assert report.result.usage.seconds > 0
    assert "said" in bench.sent.output


async def test_work_without_checks_is_unverified_never_passed_by_them(bench: Bench) -> None:
    report = await bench.report(TaskSpec(command="true"))

    assert report.state is AttemptState.PASSED
    assert report.result.verified is None
    assert report.result.iterations[0].passed is None


async def test_a_repair_sees_what_failed_and_both_iterations_are_told(bench: Bench) -> None:
    spec = TaskSpec(
        command='if [ "$AGENTCOM_ITERATION" = 2 ]; then grep -q failing "$AGENTCOM_REPORT" && echo fixed > made; fi',
        verification=(CheckFileExists(path="made"), CheckCommandSucceeds(command="true")),
    )
    report = await bench.report(spec)

    assert report.state is AttemptState.PASSED
    assert [(i.number, i.passed) for i in report.result.iterations] == [(1, False), (2, True)]
    assert [(m.state, m.iteration) for m in bench.sent.of(Progress)] == [
        (AttemptState.RUNNING, 1), (AttemptState.VERIFYING, 1), (AttemptState.RUNNING, 2), (AttemptState.VERIFYING, 2),
    ]  # fmt: skip


async def test_the_work_is_committed_with_trailers_and_pushed_to_its_own_branch(bench: Bench, repo: Path) -> None:
    spec = TaskSpec(title="Add a file", command="echo x > new", context=Context(repo=str(repo), branch="main"))
    report = await bench.report(spec)
    result = report.result

    assert report.state is AttemptState.PASSED, result.error
    assert result.pushed
    assert result.branch.endswith("-e1")
    assert git("rev-parse", result.branch, cwd=repo) == result.commit
    assert git("show", f"{result.branch}:new", cwd=repo) == "x"
    assert git("log", "-1", "--format=%B", result.branch, cwd=repo) == (
        f"Add a file\n\nTask: {attempt().task}\nEpoch: 1\nAgent: Arbitrary"
    )
    assert git("show", "main:README", cwd=repo) == "hello"


async def test_a_command_that_commits_itself_is_pushed_with_its_own_commit(bench: Bench, repo: Path) -> None:
    spec = TaskSpec(
        command="echo x > new && git add new && git commit -q -m mine",
        context=Context(repo=str(repo)), verification=(CheckGitClean(),),
    )  # fmt: skip
    result = (await bench.report(spec)).result

    assert result.verified
    assert git("log", "-1", "--format=%s", result.branch, cwd=repo) == "mine"
    assert result.commit == git("rev-parse", result.branch, cwd=repo)


async def test_git_clean_fails_if_the_command_leaves_its_changes_uncommitted(bench: Bench, repo: Path) -> None:
    spec = TaskSpec(
        command="echo x > new", context=Context(repo=str(repo)), verification=(CheckGitClean(),),
        budget=Budget(fix_attempts=0),
    )  # fmt: skip
    report = await bench.report(spec)

    assert (report.state, report.failure) == (AttemptState.FAILED, FailureClass.VERIFY)
    assert git("branch", "--list", cwd=repo) == "* main"


async def test_a_noop_is_accepted_and_reported_in_the_same_tick(bench: Bench) -> None:
    for number in range(100):
        bench.runner.assigned(assign(TaskSpec(executor="noop"), number, "noop"))

    assert [type(message) for message in bench.sent.messages] == [Accept, Report] * 100
    assert bench.sent.of(Report)[0].result.verified is None
    assert bench.runner.busy == 0

    bench.runner.commit()
    for number in range(100):
        bench.runner.forget(attempt(number))

    assert bench.runner.inventory() == ()
    assert bench.journal.reports() == []


async def test_a_noop_with_checks_is_checked(bench: Bench) -> None:
    spec = TaskSpec(executor="noop", verification=(CheckFileExists(path="never"),), budget=Budget(fix_attempts=0))
    report = await bench.report(spec, executor="noop")

    assert (report.state, report.result.execution_ok, report.result.verified) == (AttemptState.FAILED, True, False)


# --- failures ---------------------------------------------------------------------------------------------------------


async def test_checks_that_keep_failing_end_with_the_partial_report(bench: Bench) -> None:
    spec = TaskSpec(
        command="echo trying",
        verification=(CheckCommandSucceeds(command="true"), CheckCommandSucceeds(command="echo why; false")),
        budget=Budget(fix_attempts=1),
    )
    report = await bench.report(spec)

    assert (report.state, report.failure) == (AttemptState.FAILED, FailureClass.VERIFY)
    assert (report.result.execution_ok, report.result.verified) == (True, False)
    assert [finding.passed for finding in report.result.report] == [True, False]
    assert len(report.result.iterations) == 2
    assert report.result.error_code == "checks_failed"
    assert "1 of 2 checks still fail after 2 iterations" in report.result.error


async def test_a_command_that_fails_is_the_agents_failure(bench: Bench) -> None:
    report = await bench.report(TaskSpec(command="echo no >&2; exit 3"))

    assert (report.state, report.failure) == (AttemptState.FAILED, FailureClass.AGENT)
    assert (report.result.execution_ok, report.result.exit_code, report.result.verified) == (False, 3, None)
    assert report.result.error


async def test_a_repository_that_does_not_exist_is_the_inputs_failure(bench: Bench) -> None:
    report = await bench.report(TaskSpec(command="true", context=Context(repo="/nowhere/at/all.git")))

    assert (report.state, report.failure) == (AttemptState.FAILED, FailureClass.INPUT)
    assert report.result.error_code == "repository_missing"
    assert "/nowhere/at/all.git" in report.result.error


async def test_a_command_that_outlives_its_seconds_is_ended_for_its_budget(bench: Bench) -> None:
    report = await bench.report(TaskSpec(command="sleep 60", budget=Budget(seconds=0.3)))

    assert (report.state, report.failure) == (AttemptState.FAILED, FailureClass.BUDGET)


@pytest.mark.parametrize(
    "usage, budget, kind",
    [
        (Usage(model="m", input_tokens=60), Budget(tokens=100, fix_attempts=9), "tokens"),
        (Usage(model="m", cost_usd=0.6), Budget(usd=1.0, fix_attempts=9), "USD"),
    ],
)
async def test_repairs_stop_when_the_budget_is_spent(tmp_path: Path, usage: Usage, budget: Budget, kind: str) -> None:
    bench = make(tmp_path)
    spender = Spender(usage)
    bench.parts.executors["spender"] = spender  # type: ignore[index]  # a dict behind a read-only type
    spec = TaskSpec(prompt="x", verification=(CheckFileExists(path="never"),), budget=budget)
    report = await bench.report(spec, executor="spender")
    bench.journal.close()

    assert (report.state, report.failure) == (AttemptState.FAILED, FailureClass.BUDGET)
    assert kind in report.result.error
    assert len(report.result.iterations) == 2
    assert [work.remaining.fix_attempts for work in spender.works] == [9, 9 - 0]
    assert report.result.usage.input_tokens == 2 * usage.input_tokens


async def test_an_endpoint_that_is_down_ends_the_attempt_without_checks(bench: Bench) -> None:
    bench.parts.executors["spender"] = Spender(Usage(), FailureClass.QUOTA)  # type: ignore[index]  # as above
    spec = TaskSpec(prompt="x", verification=(CheckFileExists(path="never"),))
    report = await bench.report(spec, executor="spender")

    assert (report.state, report.failure) == (AttemptState.FAILED, FailureClass.QUOTA)
    assert (report.result.error_code, report.result.verified) == ("endpoint_down", None)
    assert len(report.result.iterations) == 1


async def test_a_bug_of_ours_ends_one_attempt_and_is_told(bench: Bench) -> None:
    bench.parts.executors["spender"] = Spender(Usage(), bug=ZeroDivisionError())  # type: ignore[index]  # as above
    with capture_logs() as lines:
        report = await bench.report(TaskSpec(prompt="x"), executor="spender")

    assert (report.state, report.failure) == (AttemptState.FAILED, FailureClass.INFRA)
    assert "ZeroDivisionError" in report.result.error
    assert "attempt_broke" in [line["event"] for line in lines]
    assert bench.runner.busy == 0


async def test_any_amount_of_output_makes_a_report_that_fits(bench: Bench) -> None:
    checks = tuple(
        CheckCommandSucceeds(command=f"head -c 20000 /dev/zero | tr '\\0' {n % 10}; false") for n in range(20)
    )
    spec = TaskSpec(command="head -c 900000 /dev/zero | tr '\\0' x", verification=checks, budget=Budget(fix_attempts=4))
    report = await bench.report(spec)

    assert len(codec.encode(report)) <= MAX_RESULT_BYTES + 1_000
    assert len(report.result.iterations) == 5


# --- taking and refusing ----------------------------------------------------------------------------------------------


async def test_the_same_assignment_again_starts_nothing(bench: Bench) -> None:
    marker = bench.folder / "runs"
    message = assign(TaskSpec(command=f"echo run >> {marker}; sleep 0.2"))
    bench.runner.assigned(message)
    bench.runner.assigned(message)
    await bench.sent.until(lambda: bench.sent.of(Report))
    bench.runner.assigned(message)

    assert marker.read_text() == "run\n"
    assert len(bench.sent.of(Accept)) == 3
    assert len({codec.encode(report) for report in bench.sent.of(Report)}) == 1
    assert len(bench.sent.of(Report)) == 2


async def test_a_new_epoch_of_a_task_is_another_attempt(bench: Bench) -> None:
    await bench.report(TaskSpec(command="true"))
    bench.runner.assigned(assign(TaskSpec(command="true"), epoch=2))
    await bench.sent.until(lambda: len(bench.sent.of(Report)) == 2)

    assert [report.attempt.epoch for report in bench.sent.of(Report)] == [1, 2]


async def test_what_cannot_be_taken_is_rejected_with_its_reason(bench: Bench) -> None:
    slow = TaskSpec(command="sleep 30")
    bench.runner.assigned(assign(slow, 1))
    bench.runner.assigned(assign(slow, 2))
    bench.runner.assigned(assign(slow, 3))
    bench.runner.drain(on=True)
    bench.runner.assigned(assign(slow, 4))
    bench.runner.assigned(assign(TaskSpec(executor="noop"), 5, "noop"))
    bench.runner.drain(on=False)
    bench.runner.cancelled(Cancel(attempt=attempt(1), reason="room"))
    await bench.sent.until(lambda: bench.sent.of(Report))
    bench.runner.assigned(assign(slow, 6, executor="forge"))
    stranger = Assign(
        attempt=AttemptId("Other", 1, "t", 1), spec=Raw(codec.encode_spec(slow)), routing=Routing(tier=TIER), lease_s=1
    )
    bench.runner.assigned(stranger)
    bench.runner.assigned(Assign(attempt=attempt(7), spec=Raw(b"\xc0"), routing=Routing(tier=TIER), lease_s=1))

    assert [(reject.attempt.task[-1], reject.code) for reject in bench.sent.of(Reject)] == [
        ("3", "no_slot"), ("4", "draining"), ("5", "draining"), ("6", "unknown_executor"), ("t", "not_ours"),
        ("7", "malformed_frame"),
    ]  # fmt: skip
    assert "agent, chat, noop, shell" in bench.sent.of(Reject)[3].reason


async def test_leaving_takes_nothing_new_and_lets_running_work_end(bench: Bench) -> None:
    bench.runner.assigned(assign(TaskSpec(command="sleep 0.2")))
    bench.runner.leave()
    bench.runner.drain(on=False)  # the hub does not overrule us
    bench.runner.assigned(assign(TaskSpec(command="true"), 2))
    await bench.runner.idle()

    assert bench.sent.of(Report)[0].state is AttemptState.PASSED
    assert bench.sent.of(Reject)[0].code == "draining"
    assert bench.sent.beats == 1


# --- stopping ---------------------------------------------------------------------------------------------------------


def alive(pid_file: Path) -> bool:
    try:
        process = psutil.Process(int(pid_file.read_text()))
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def started(bench: Bench, number: int = 1) -> Path:
    """An attempt that sleeps, with a grandchild in a session of its own; the file that holds the grandchild's pid."""
    pid_file = bench.folder / f"pid-{number}"
    bench.runner.assigned(
        assign(TaskSpec(command=f"setsid sleep 600 & echo $! > {pid_file}; echo up; sleep 600"), number)
    )
    await bench.sent.until(lambda: any(m.attempt == attempt(number) and "up" in m.text for m in bench.sent.of(Log)))
    return pid_file


async def test_a_cancelled_attempt_is_killed_whole_and_reported_once(bench: Bench) -> None:
    pid_file = await started(bench)
    for _ in range(3):
        bench.runner.cancelled(Cancel(attempt=attempt(), reason="changed my mind"))
    await bench.sent.until(lambda: bench.sent.of(Report))
    bench.runner.cancelled(Cancel(attempt=attempt(), reason="again"))
    bench.runner.cancelled(Cancel(attempt=attempt(9), reason="unknown here"))
    (report,) = bench.sent.of(Report)

    assert (report.state, report.failure) == (AttemptState.CANCELLED, FailureClass.CANCELLED)
    assert report.result.error == "cancelled: changed my mind"
    assert not alive(pid_file)
    assert [entry.state for entry in bench.journal.reports()] == [AttemptState.CANCELLED]


async def test_a_lease_that_may_end_stops_the_work_and_its_loss_is_reported(bench: Bench) -> None:
    pid_file = await started(bench)
    bench.runner.fence()
    bench.runner.fence()
    await bench.sent.until(lambda: bench.sent.of(Report))
    (report,) = bench.sent.of(Report)

    assert (report.state, report.failure, report.result.error_code) == (
        AttemptState.LOST, FailureClass.INFRA, "lost",
    )  # fmt: skip
    assert not alive(pid_file)


async def test_an_attempt_that_the_hub_does_not_want_ends_without_a_word(bench: Bench) -> None:
    pid_file = await started(bench)
    bench.runner.forget(attempt())

    assert bench.runner.inventory() == ()

    bench.runner.assigned(assign(TaskSpec(command="true")))

    assert bench.sent.of(Reject)[0].code == "stopping"

    await bench.runner.idle()

    assert bench.sent.of(Report) == []
    assert not alive(pid_file)
    assert bench.journal.held() == bench.journal.reports() == []


async def test_a_report_is_kept_until_the_hub_has_it(bench: Bench) -> None:
    await bench.report(TaskSpec(command="true"))

    assert [held.state for held in bench.runner.inventory()] == [AttemptState.PASSED]
    assert len(bench.journal.reports()) == 1

    bench.runner.forget(attempt())
    bench.runner.forget(attempt())

    assert bench.runner.inventory() == ()
    assert bench.journal.reports() == []
    assert bench.sent.touched == 1


async def test_what_an_earlier_boot_left_is_taken_up(tmp_path: Path) -> None:
    done = Report(
        attempt=attempt(1), state=AttemptState.PASSED, result=TaskResult(execution_ok=True, verified=None)
    )  # fmt: skip
    with Journal(tmp_path / "journal.db") as journal:
        journal.finished(attempt(1), AttemptState.PASSED, 1, codec.encode(done))
        journal.finished(attempt(2), AttemptState.PASSED, 1, b"\xc1")
        journal.accept(attempt(3), b"spec")
        journal.progress(attempt(3), AttemptState.VERIFYING, 2)
    bench = make(tmp_path)
    with capture_logs() as lines:
        bench.runner.recover()
    again, lost = bench.sent.of(Report)

    assert again == done
    assert (lost.attempt, lost.state, lost.failure) == (attempt(3), AttemptState.LOST, FailureClass.INFRA)
    assert lost.result.error_code == "sidecar_restarted"
    assert {held.attempt for held in bench.runner.inventory()} == {attempt(1), attempt(3)}
    assert "report_unreadable" in [line["event"] for line in lines]
    assert [entry.attempt for entry in bench.journal.reports()] == [attempt(1), attempt(3)]
    assert bench.journal.held() == []
    bench.journal.close()


async def test_nothing_is_left_behind_by_an_attempt(bench: Bench) -> None:
    await bench.report(TaskSpec(command="sleep 600 & echo $! > /dev/null"))

    assert not any((bench.folder / "scratch").iterdir())

"""The promises of the runner: real executors, real processes, real git; only the line to the hub is a list."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psutil
import pytest
from msgspec import Raw
from structlog.testing import capture_logs

from protocol import codec
from protocol.messages import Accept, Assign, Cancel, Log, Reject, Report
from protocol.model import SIDECAR_DIED, AttemptId, AttemptState, FailureClass, Routing, TaskResult, TaskSpec
from sidecar.journal import Journal
from sidecar.leases import Leases
from tests.support.runners import TIER, Bench, assign, attempt, make


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = make(tmp_path)
    yield bench
    await bench.runner.stop()
    bench.journal.close()


# --- taking and refusing ----------------------------------------------------------------------------------------------


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


class Hand:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def __call__(self) -> float:
        return self.at


async def test_an_assignment_that_was_too_long_on_its_way_starts_nothing(tmp_path: Path) -> None:
    clock = Hand()
    leases = Leases(clock)
    leases.proven(clock.at)
    bench = make(tmp_path, leases=leases)
    clock.at += leases.lease_s
    bench.runner.assigned(assign(TaskSpec(command=f"touch {tmp_path}/begun")))

    assert [(r.code, r.attempt) for r in bench.sent.of(Reject)] == [("late", attempt())]
    assert bench.sent.of(Accept) == []
    assert bench.runner.inventory() == ()
    bench.journal.close()


async def test_an_attempt_that_was_not_taken_is_not_taken_later(tmp_path: Path) -> None:
    clock = Hand()
    leases = Leases(clock)
    leases.proven(clock.at)
    bench = make(tmp_path, leases=leases)
    clock.at += leases.lease_s
    bench.runner.assigned(assign(TaskSpec(command=f"touch {tmp_path}/begun")))
    leases.proven(clock.at)  # a hub that has not heard of it yet sends it once more
    bench.runner.assigned(assign(TaskSpec(command=f"touch {tmp_path}/begun")))

    assert [r.code for r in bench.sent.of(Reject)] == ["late", "rejected"]
    assert bench.sent.of(Accept) == []
    bench.journal.close()


async def test_only_work_whose_own_lease_may_end_is_stopped(tmp_path: Path) -> None:
    clock = Hand()
    leases = Leases(clock)
    leases.proven(clock.at)
    bench = make(tmp_path, leases=leases)
    clock.at += 20.0
    bench.runner.assigned(assign(TaskSpec(command="sleep 600"), 1))
    leases.proven(clock.at - 1.0)  # of a heartbeat that did not name the first
    bench.runner.assigned(assign(TaskSpec(command="sleep 600"), 2))
    clock.at += 6.0
    bench.runner.fence()
    await bench.sent.until(lambda: bench.sent.of(Report))

    assert [(r.attempt, r.state) for r in bench.sent.of(Report)] == [(attempt(1), AttemptState.LOST)]
    assert bench.runner.busy == 1
    await bench.runner.stop()
    bench.journal.close()


async def test_work_that_died_with_the_last_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    first = make(tmp_path)
    first.runner.assigned(assign(TaskSpec(command="echo last words; sleep 600")))
    tails = tmp_path / "tails"
    async with asyncio.timeout(20):
        while not any(tail.read_text() == "last words\n" for tail in tails.glob("*")):  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.01)
    second = make(tmp_path)  # the first is not asked: it is dead
    second.runner.recover()

    (report,) = second.sent.of(Report)
    assert (report.state, report.result.error_code) == (AttemptState.LOST, SIDECAR_DIED)
    assert report.result.output == "last words\n"
    second.journal.close()
    await first.runner.stop()
    first.journal.close()


@pytest.mark.parametrize("how", ["fence", "forget"])
async def test_work_that_somebody_else_may_get_any_moment_is_given_no_time_to_end(tmp_path: Path, how: str) -> None:
    bench = make(tmp_path, grace_s=20.0)
    command = "trap '' TERM; setsid sh -c \"trap '' TERM; echo up; sleep 600\" & echo up; sleep 600; sleep 600"
    bench.runner.assigned(assign(TaskSpec(command=command)))
    await bench.sent.until(lambda: bench.sent.output.count("up") == 2)
    if how == "fence":
        bench.runner.fence()
    else:
        bench.runner.forget(attempt())

    async with asyncio.timeout(5):  # what a lease leaves (LEASE_MARGIN_S)
        await bench.runner.idle()
    bench.journal.close()


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


async def test_a_report_tells_and_keeps_nothing_that_goes_without_saying(bench: Bench) -> None:
    bench.runner.assigned(assign(TaskSpec(executor="noop"), 2, "noop"))
    await bench.report(TaskSpec(command="true"))
    bench.runner.commit()
    kept = {entry.attempt: entry.report or b"" for entry in bench.journal.reports()}
    whole = {report.attempt: codec.encode(report) for report in bench.sent.of(Report)}

    assert kept == whole
    assert len(kept) == 2
    for report in kept.values():
        result = msgspec.msgpack.decode(report)["result"]
        assert not {"output", "report", "branch", "artifacts", "diff", "error"} & set(result)
        assert set(result["iterations"][0]) <= {"number", "execution_ok", "passed", "usage", "summary"}


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
    again, unread, lost = bench.sent.of(Report)

    assert again == done
    assert (unread.attempt, unread.state, unread.failure) == (attempt(2), AttemptState.FAILED, FailureClass.INFRA)
    assert unread.result.error_code == "report_unreadable"
    assert (lost.attempt, lost.state, lost.failure) == (attempt(3), AttemptState.LOST, FailureClass.INFRA)
    assert lost.result.error_code == "sidecar_restarted"
    assert {held.attempt for held in bench.runner.inventory()} == {attempt(1), attempt(2), attempt(3)}
    assert "report_unreadable" in [line["event"] for line in lines]
    assert [entry.attempt for entry in bench.journal.reports()] == [attempt(1), attempt(2), attempt(3)]
    assert bench.journal.held() == []
    bench.journal.close()


async def test_nothing_is_left_behind_by_an_attempt(bench: Bench) -> None:
    await bench.report(TaskSpec(command="sleep 600 & echo $! > /dev/null"))

    assert not any((bench.folder / "scratch").iterdir())


async def test_a_death_between_a_push_and_its_report_names_the_branch(tmp_path: Path) -> None:
    first = make(tmp_path)
    about = TaskResult(execution_ok=True, verified=True, branch="agentcom/a/b-1-e1", commit="c" * 40)
    first.journal.accept(attempt(), codec.encode_spec(TaskSpec(command="true")))
    first.journal.note(attempt(), codec.encode(Report(attempt=attempt(), state=AttemptState.LOST, result=about)))
    first.journal.commit()
    second = make(tmp_path)
    second.runner.recover()

    (report,) = second.sent.of(Report)
    assert (report.state, report.result.error_code) == (AttemptState.LOST, SIDECAR_DIED)
    assert (report.result.branch, report.result.commit, report.result.pushed) == (about.branch, about.commit, False)
    assert make(tmp_path).journal.held() == []

"""The promises of a proof: the checks run on what was pushed and on nothing else, and a machine says when it cannot."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from protocol.checks import Check, CheckCommandSucceeds, CheckFileExists, CheckJudge, CheckTestPasses, digest_of
from protocol.messages import Accept, Cancel, Proof, Reject, Report
from protocol.model import AttemptId, AttemptState, Context, FailureClass, TaskSpec
from tests.support.repositories import Remote, git, make_remote
from tests.support.runners import Bench, assign, attempt, make

BRANCH = "agentcom/maker/work"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = make(tmp_path)
    yield bench
    await bench.runner.stop()
    bench.journal.close()


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return make_remote(tmp_path, {"README": "hello\n", ".gitignore": "hidden\n"})


async def proven(bench: Bench, remote: Remote, *checks: Check, commit: str = "") -> Report:
    """What this machine says about a commit."""
    spec = TaskSpec(command="touch done-here", context=Context(repo=str(remote.path)), verification=checks)
    work = AttemptId("Maker", 1, attempt(epoch=2).task, 1)
    proof = Proof(attempt=work, branch=BRANCH, commit=commit)
    bench.runner.assigned(replace(assign(spec, executor="proof", epoch=2), proof=proof))
    await bench.sent.until(lambda: bench.sent.of(Report))
    return bench.sent.of(Report)[-1]


async def test_what_was_pushed_is_checked_and_nothing_is_done_or_pushed(bench: Bench, remote: Remote) -> None:
    commit = remote.commit({"made": "yes\n"}, branch=BRANCH)
    before = git(remote.path, "for-each-ref")
    checks = CheckFileExists(path="made"), CheckCommandSucceeds(command="test ! -e done-here")
    report = await proven(bench, remote, *checks, commit=commit)

    assert (report.state, report.failure) == (AttemptState.PASSED, None)
    result = report.result
    assert (result.verified, [found.passed for found in result.report]) == (True, [True, True])
    assert (result.branch, result.commit, result.pushed) == (BRANCH, commit, True)
    assert result.checks == digest_of(checks)
    assert git(remote.path, "for-each-ref") == before
    assert not list((bench.folder / "work" / "work").iterdir())
    assert not list((bench.folder / "scratch").glob("*")) or not (bench.folder / "scratch").exists()


async def test_what_is_not_there_fails_with_what_was_found(bench: Bench, remote: Remote) -> None:
    commit = remote.commit({"made": "yes\n"}, branch=BRANCH)
    report = await proven(bench, remote, CheckFileExists(path="hidden"), commit=commit)

    assert (report.state, report.failure) == (AttemptState.FAILED, FailureClass.VERIFY)
    assert (report.result.execution_ok, report.result.verified) == (True, False)
    assert report.result.error_code == "checks_failed"
    assert [found.passed for found in report.result.report] == [False]


async def test_work_that_changed_nothing_is_checked_on_what_it_began_from(bench: Bench, remote: Remote) -> None:
    report = await proven(bench, remote, CheckFileExists(path="README"))

    assert (report.state, report.result.verified, report.result.pushed) == (AttemptState.PASSED, True, False)


async def test_who_was_asked_what_he_thinks_of_the_work_is_not_asked_again(bench: Bench, remote: Remote) -> None:
    commit = remote.commit({"made": "yes\n"}, branch=BRANCH)
    checks = CheckJudge(question="Is it good?"), CheckFileExists(path="made")
    report = await proven(bench, remote, *checks, commit=commit)

    assert (report.state, report.result.verified) == (AttemptState.PASSED, True)
    assert [found.type for found in report.result.report] == ["judge", "file_exists"]
    assert report.result.report[0].detail == "asked where the work was done, and not again"
    assert report.result.checks == digest_of(checks)


@pytest.mark.parametrize("command", ["no-such-program-here -q", "A=1 no-such-program-here"])
async def test_a_machine_that_lacks_the_program_says_nothing_about_the_work(
    bench: Bench, remote: Remote, command: str
) -> None:
    commit = remote.commit({"made": "yes\n"}, branch=BRANCH)
    report = await proven(bench, remote, CheckTestPasses(command=command), commit=commit)

    assert (report.state, report.failure) == (AttemptState.FAILED, FailureClass.INFRA)
    assert (report.result.verified, report.result.error_code) == (None, "cannot_tell")
    assert "this machine lacks no-such-program-here" in report.result.error


async def test_a_program_that_is_lacking_hides_no_other_failure(bench: Bench, remote: Remote) -> None:
    commit = remote.commit({"made": "yes\n"}, branch=BRANCH)
    checks = CheckTestPasses(command="no-such-program-here -q"), CheckCommandSucceeds(command="test -e hidden")
    report = await proven(bench, remote, *checks, commit=commit)

    assert (report.state, report.failure) == (AttemptState.FAILED, FailureClass.VERIFY)
    assert report.result.verified is False


async def test_a_program_that_the_work_should_have_brought_is_its_own_fault(bench: Bench, remote: Remote) -> None:
    commit = remote.commit({"made": "yes\n"}, branch=BRANCH)
    report = await proven(bench, remote, CheckCommandSucceeds(command="./hidden"), commit=commit)

    assert (report.state, report.failure) == (AttemptState.FAILED, FailureClass.VERIFY)


async def test_a_commit_that_is_gone_tells_nothing(bench: Bench, remote: Remote) -> None:
    report = await proven(bench, remote, CheckFileExists(path="README"), commit="c" * 40)

    assert (report.state, report.failure, report.result.verified) == (AttemptState.FAILED, FailureClass.INFRA, None)
    assert "is not in the repository any more" in report.result.error


async def test_a_repository_that_is_not_here_tells_nothing(bench: Bench, remote: Remote, tmp_path: Path) -> None:
    gone = Remote(tmp_path / "none", remote.clone)
    report = await proven(bench, gone, CheckFileExists(path="README"), commit="c" * 40)

    assert (report.state, report.failure) == (AttemptState.FAILED, FailureClass.INPUT)
    assert report.result.verified is None


async def test_a_proof_that_is_cancelled_stops(bench: Bench, remote: Remote) -> None:
    commit = remote.commit({"made": "yes\n"}, branch=BRANCH)
    spec = TaskSpec(
        command="true",
        context=Context(repo=str(remote.path)),
        verification=(CheckCommandSucceeds(command="echo begun; sleep 600"),),
    )
    work = AttemptId("Maker", 1, attempt(epoch=2).task, 1)
    told = replace(assign(spec, executor="proof", epoch=2), proof=Proof(attempt=work, branch=BRANCH, commit=commit))
    bench.runner.assigned(told)
    await bench.sent.until(lambda: "begun" in bench.sent.output)
    bench.runner.cancelled(Cancel(attempt=told.attempt, reason="no"))
    await bench.sent.until(lambda: bench.sent.of(Report))

    assert bench.sent.of(Report)[-1].state is AttemptState.CANCELLED


async def test_an_attempt_at_a_proof_of_nothing_is_not_taken(bench: Bench, remote: Remote) -> None:
    spec = TaskSpec(command="true", context=Context(repo=str(remote.path)))
    bench.runner.assigned(assign(spec, executor="proof"))

    assert [reject.code for reject in bench.sent.of(Reject)] == ["nothing_to_prove"]
    assert not bench.sent.of(Accept)

"""The promises of one attempt's work: real executors, real processes, real git."""

import asyncio
import fcntl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from protocol import codec
from protocol.checks import CheckCommandSucceeds, CheckFileExists, CheckGitClean
from protocol.limits import MAX_RESULT_BYTES
from protocol.messages import Accept, Cancel, Log, Progress, Report
from protocol.model import AttemptState, Budget, Context, FailureClass, TaskSpec, Usage
from tests.support.repositories import git, make_remote
from tests.support.runners import Bench, Spender, assign, attempt, make


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = make(tmp_path)
    yield bench
    await bench.runner.stop()
    bench.journal.close()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A bare repository with one commit on main."""
    return make_remote(tmp_path, {"README": "hello\n"}).path


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
    assert git(repo, "rev-parse", result.branch) == result.commit
    assert "+++ b/new\n@@ -0,0 +1 @@\n+x\n" in result.diff.replace("\n\\ No newline at end of file", "")
    assert git(repo, "show", f"{result.branch}:new") == "x"
    assert git(repo, "log", "-1", "--format=%B", result.branch) == (
        f"Add a file\n\nTask: {attempt().task}\nEpoch: 1\nAgent: Arbitrary"
    )
    assert git(repo, "show", "main:README") == "hello"


async def test_a_command_that_commits_itself_is_pushed_with_its_own_commit(bench: Bench, repo: Path) -> None:
    spec = TaskSpec(
        command="echo x > new && git add new && git commit -q -m mine",
        context=Context(repo=str(repo)), verification=(CheckGitClean(),),
    )  # fmt: skip
    result = (await bench.report(spec)).result

    assert result.verified
    assert git(repo, "log", "-1", "--format=%s", result.branch) == "mine"
    assert result.commit == git(repo, "rev-parse", result.branch)


async def test_git_clean_fails_if_the_command_leaves_its_changes_uncommitted(bench: Bench, repo: Path) -> None:
    spec = TaskSpec(
        command="echo x > new", context=Context(repo=str(repo)), verification=(CheckGitClean(),),
        budget=Budget(fix_attempts=0),
    )  # fmt: skip
    report = await bench.report(spec)

    assert (report.state, report.failure) == (AttemptState.FAILED, FailureClass.VERIFY)
    assert git(repo, "branch", "--list") == "* main"


async def test_work_that_fills_the_disk_ends_at_once_by_its_own_fault_and_leaves_nothing(tmp_path: Path) -> None:
    bench = make(tmp_path, disk_bytes=4 << 20)
    spec = TaskSpec(command="head -c 6000000 /dev/urandom >file; echo full; trap '' TERM; while :; do sleep 1; done")
    bench.runner.assigned(assign(spec))
    await bench.sent.until(lambda: "full" in bench.sent.output)
    await bench.parts.quota.look()
    await bench.sent.until(lambda: bench.sent.of(Report))
    (report,) = bench.sent.of(Report)
    bench.journal.close()

    assert (report.state, report.failure) == (AttemptState.FAILED, FailureClass.AGENT)
    assert report.result.error_code == "disk_quota"
    assert "at most 4 MiB" in report.result.error
    assert [path.name for path in (tmp_path / "work" / "work").iterdir()] == []
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == []


async def test_what_a_check_leaves_running_is_ended_before_the_host_looks(bench: Bench, repo: Path) -> None:
    left = "setsid sh -c 'while :; do echo x > new; sleep 0.01; done' >/dev/null 2>&1 & until [ -e new ]; do :; done"
    spec = TaskSpec(
        command="true", context=Context(repo=str(repo)), budget=Budget(fix_attempts=0),
        verification=(CheckCommandSucceeds(command=left), CheckCommandSucceeds(command="rm new"), CheckGitClean()),
    )  # fmt: skip
    result = (await bench.report(spec)).result

    assert [finding.passed for finding in result.report] == [True, True, True]


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


# --- what counts as proven --------------------------------------------------------------------------------------------


async def test_what_the_work_leaves_running_is_ended_before_its_checks(bench: Bench) -> None:
    spec = TaskSpec(
        command="sleep 600 > /dev/null 2>&1 & echo $! > pid",
        verification=(CheckCommandSucceeds(command="! grep -qs '^State:[[:space:]]*[RSDT]' /proc/$(cat pid)/status"),),
        budget=Budget(fix_attempts=0),
    )
    report = await bench.report(spec)

    assert report.result.verified is True


FOOLS = [
    "git update-index --assume-unchanged README; echo more >> README",
    "git update-index --skip-worktree README; echo more >> README",
    'echo new > new; p="$(git rev-parse --git-path info/exclude)"; mkdir -p "${p%/*}"; echo new >> "$p"',
    "echo new > new; git config status.showUntrackedFiles no",
    'echo new > new; mkdir ../elsewhere; git config core.worktree "$PWD/../elsewhere"',
    "echo new > new; rm .git; git init -q; git add -A; git commit -q -m mine",
    "echo new > new; mkdir -p ~/.config/git; echo new > ~/.config/git/ignore",
]


@pytest.mark.parametrize("fool", FOOLS)
async def test_git_clean_is_not_fooled_and_what_was_hidden_is_delivered(bench: Bench, repo: Path, fool: str) -> None:
    checked = TaskSpec(
        command=fool, context=Context(repo=str(repo)), verification=(CheckGitClean(),), budget=Budget(fix_attempts=0)
    )
    unchecked = TaskSpec(command=fool.replace("mkdir ../elsewhere; ", ""), context=Context(repo=str(repo)))
    first = (await bench.report(checked, 1)).result
    second = (await bench.report(unchecked, 2)).result

    assert first.verified is False
    assert "new" in git(repo, "show", f"{second.branch}:{'README' if 'README' in fool else 'new'}").replace(
        "more", "new"
    )


async def test_what_one_attempt_leaves_in_the_shared_repository_does_not_reach_the_next(
    bench: Bench, repo: Path
) -> None:
    left = (
        'd="$(git rev-parse --git-common-dir)"; mkdir -p "$d/hooks" "$d/info"; echo "*" > "$d/info/exclude";'
        'echo "* -text" > "$d/info/attributes"; printf "#!/bin/sh\nexit 1\n" > "$d/hooks/pre-commit";'
        'chmod +x "$d/hooks/pre-commit"'
    )
    await bench.report(TaskSpec(command=left, context=Context(repo=str(repo))), 1)
    spec = TaskSpec(command="echo x > new; git add new && git commit -q -m mine", context=Context(repo=str(repo)))
    result = (await bench.report(spec, 2)).result

    assert git(repo, "log", "-1", "--format=%s", result.branch) == "mine"


async def test_checks_of_an_earlier_iteration_prove_nothing_about_a_later_one(bench: Bench) -> None:
    spec = TaskSpec(
        command='touch made; if [ "$AGENTCOM_ITERATION" = 1 ]; then exit 3; fi; rm made; echo up; sleep 600',
        verification=(CheckFileExists(path="made"),),
    )
    bench.runner.assigned(assign(spec))
    await bench.sent.until(lambda: "up" in bench.sent.output)
    bench.runner.cancelled(Cancel(attempt=attempt(), reason="enough"))
    await bench.sent.until(lambda: bench.sent.of(Report))
    (report,) = bench.sent.of(Report)

    assert [finding.passed for finding in report.result.report] == [True]
    assert report.result.verified is None


# --- what work cost, and what cleaning up may not undo ----------------------------------------------------------------


async def test_work_that_is_stopped_during_its_checks_has_cost_what_it_cost(bench: Bench) -> None:
    bench.parts.executors["spender"] = Spender(Usage(model="m", input_tokens=60))  # type: ignore[index]  # as above
    spec = TaskSpec(prompt="x", verification=(CheckCommandSucceeds(command="echo checking; sleep 600"),))
    bench.runner.assigned(assign(spec, executor="spender"))
    await bench.sent.until(lambda: "checking" in bench.sent.output)
    bench.runner.cancelled(Cancel(attempt=attempt(), reason="enough"))
    await bench.sent.until(lambda: bench.sent.of(Report))

    assert bench.sent.of(Report)[0].result.usage.input_tokens == 60


async def test_work_that_is_stopped_in_the_middle_has_cost_what_it_cost(bench: Bench) -> None:
    bench.parts.executors["spender"] = Spender(Usage(model="m", input_tokens=60), stays=True)  # type: ignore[index]  # a dict here
    bench.runner.assigned(assign(TaskSpec(prompt="x"), executor="spender"))
    await bench.sent.until(lambda: "spent" in bench.sent.output)
    bench.runner.cancelled(Cancel(attempt=attempt(), reason="enough"))
    await bench.sent.until(lambda: bench.sent.of(Report))

    assert bench.sent.of(Report)[0].result.usage.input_tokens == 60


async def test_a_budget_of_no_money_lets_work_that_costs_none_be_repaired(bench: Bench) -> None:
    spec = TaskSpec(
        command='[ "$AGENTCOM_ITERATION" = 1 ] || touch made',
        verification=(CheckFileExists(path="made"),),
        budget=Budget(usd=0.0),
    )

    assert (await bench.report(spec)).result.verified is True


async def test_work_that_was_delivered_has_passed_though_its_place_cannot_be_tidied(bench: Bench, repo: Path) -> None:
    command = 'echo x > new; touch "$(cat "$(git rev-parse --git-dir)/objects/info/alternates")/../packed-refs.lock"'
    with capture_logs() as lines:
        report = await bench.report(TaskSpec(command=command, context=Context(repo=str(repo))))

    assert (report.state, report.result.pushed) == (AttemptState.PASSED, True), report.result.error
    assert "workspace_untidy" in [line["event"] for line in lines]


@pytest.mark.parametrize("how", ["cancel", "fence", "death"])
async def test_work_that_was_delivered_is_not_taken_back_by_a_stop_during_the_tidying(
    bench: Bench, repo: Path, how: str
) -> None:
    go = bench.folder / "go"
    spec = TaskSpec(
        command=f"echo x > new; echo up; until [ -e {go} ]; do sleep 0.01; done", context=Context(repo=str(repo))
    )
    bench.runner.assigned(assign(spec))
    await bench.sent.until(lambda: "up" in bench.sent.output)
    (lock,) = (bench.folder / "work" / "cache").glob("*.lock")
    with lock.open() as held:  # as another attempt holds the repository while it fetches
        fcntl.flock(held, fcntl.LOCK_EX)
        go.touch()
        async with asyncio.timeout(20):
            while any((bench.folder / "work" / "work").glob("*-e1")):  # noqa: ASYNC110 - a fact on the disk
                await asyncio.sleep(0.01)
        seen = bench
        if how == "cancel":
            bench.runner.cancelled(Cancel(attempt=attempt(), reason="late"))
        elif how == "fence":
            bench.runner.fence()
        else:
            seen = make(bench.folder)  # the first is not asked: it is dead
            seen.runner.recover()
        await seen.sent.until(lambda: seen.sent.of(Report))
        seen.runner.commit()
    (report,) = seen.sent.of(Report)

    assert (report.state, report.failure, report.result.pushed) == (AttemptState.PASSED, None, True)


async def test_git_in_a_check_obeys_no_repository_that_work_or_another_check_points_to(bench: Bench) -> None:
    plant = (
        "git init -q other && git -C other config evil.was here"
        ' && to="$(git rev-parse --absolute-git-dir)" && echo "$PWD/other/.git" >"$to/commondir" && chmod 500 "$to"'
        " && git config evil.was"
    )
    meets = CheckCommandSucceeds(command="! git config evil.was")
    checks = (meets, CheckCommandSucceeds(command=plant), meets)
    report = await bench.report(TaskSpec(command=plant, verification=checks))

    assert [finding.passed for finding in report.result.report] == [True, True, True], report.result.report
    assert report.state is AttemptState.PASSED

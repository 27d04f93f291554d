import asyncio
from dataclasses import replace

import pytest

from protocol.checks import Check, CheckCommandSucceeds, CheckFileAbsent, CheckFileExists, CheckGitClean, CheckJudge
from protocol.model import Finding
from sidecar.core.marks import Mark
from sidecar.errors import GitFailed
from sidecar.verifier import verify
from tests.support.attempts import ATTEMPT, Bench


async def run(bench: Bench, *checks: Check, timeout_s: float = 20.0) -> tuple[Finding, ...]:
    return await verify(checks, bench.ground(timeout_s))


async def test_all_checks_run_whatever_the_first_one_finds_and_tell_in_their_order(bench: Bench) -> None:
    checks = (
        CheckCommandSucceeds(command="touch made; exit 1", name="first"),
        CheckFileExists(path="made", name="second"),
        CheckCommandSucceeds(command="echo third", name="third"),
    )

    found = await run(bench, *checks)

    assert [(finding.name, finding.passed) for finding in found] == [
        ("first", False),
        ("second", True),
        ("third", True),
    ]
    lines = [text.split(" (")[0] for stream, text in bench.logged if stream == "check"]
    assert lines == ["FAIL first - exit code 1", "PASS third", "PASS second"]


async def test_who_only_looks_looks_when_no_program_runs_any_more(bench: Bench) -> None:
    checks = (
        CheckFileAbsent(path="made", name="looks"),
        CheckGitClean(name="what the work left"),
        CheckCommandSucceeds(command="touch made", name="makes"),
    )
    found = await run(bench, *checks)

    assert [(finding.name, finding.passed) for finding in found] == [
        ("looks", False),
        ("what the work left", True),
        ("makes", True),
    ]


async def test_a_model_is_asked_only_when_all_other_checks_have_passed(bench: Bench) -> None:
    asked: list[str] = []

    async def ask(_system: str, question: str, _timeout_s: float) -> tuple[str, str]:
        asked.append(question)
        return "wise", '{"verdict": "pass", "reason": "it is right"}'

    bench.ask = ask
    judge = CheckJudge(question="Is it right?", name="judge")
    well = await run(bench, judge, CheckCommandSucceeds(command="true"), CheckFileAbsent(path="x"))
    (bench.workspace / "x").touch()
    badly = await run(bench, judge, CheckCommandSucceeds(command="true"), CheckFileAbsent(path="x"))

    assert [found.passed for found in well] == [True, True, True]
    assert [(found.passed, found.doubtful) for found in badly] == [(False, True), (True, False), (False, False)]
    assert badly[0].detail == "not asked: other checks have not passed"
    assert len(asked) == 1


async def test_a_program_counts_for_the_files_that_it_has_run_on(bench: Bench) -> None:
    (bench.workspace / "a.py").write_text("good")
    tests = CheckCommandSucceeds(command="grep -q good a.py", name="tests")
    spoils = CheckCommandSucceeds(command="echo bad > a.py", name="spoils")
    found = await run(bench, tests, spoils)

    assert [finding.passed for finding in found] == [False, True]
    assert "once more with what is there now" in bench.output


async def test_what_checks_bring_up_to_date_is_no_harm_if_all_go_well_with_it(bench: Bench) -> None:
    (bench.workspace / "lock").write_text("old")
    checks = (CheckCommandSucceeds(command="test -e lock"), CheckCommandSucceeds(command="echo new > lock"))
    found = await run(bench, *checks)

    assert [finding.passed for finding in found] == [True, True]
    assert bench.output.count("PASS") == 4


async def test_checks_that_change_what_they_check_each_time_leave_a_doubt(bench: Bench) -> None:
    (bench.workspace / "a.py").write_text("0")
    checks = (CheckCommandSucceeds(command="true"), CheckCommandSucceeds(command="echo $$ > a.py"))
    found = await run(bench, *checks)

    assert [(finding.passed, finding.doubtful) for finding in found] == [(False, True)] * 2
    assert found[0].detail == "the checks themselves change what they check whenever they run: a.py"


async def test_good_work_does_not_fail_because_its_checks_had_no_time_for_a_second_run(bench: Bench) -> None:
    slow = CheckCommandSucceeds(command="[ ! -e out.json ] || sleep 60; echo $$ > out.json")
    found = await run(bench, slow, CheckCommandSucceeds(command="true"), timeout_s=3.0)
    bad = CheckCommandSucceeds(command="[ ! -e other ] || exit 1; touch other")
    worse = await run(bench, bad, CheckCommandSucceeds(command="[ ! -e late ] || sleep 60; touch late"), timeout_s=3.0)

    assert [(finding.passed, finding.doubtful) for finding in found] == [(False, True)] * 2
    assert "no time was left" in found[0].detail
    assert (worse[0].passed, worse[0].doubtful) == (False, False)


async def test_a_report_about_the_tests_changes_nothing(bench: Bench) -> None:
    found = await run(bench, CheckCommandSucceeds(command="date +%N > junit.xml; date +%N > .coverage"))

    assert found[0].passed
    assert bench.output.count("PASS") == 1


async def test_if_nobody_can_tell_what_changed_no_program_has_passed(bench: Bench) -> None:
    async def broken() -> dict[str, Mark]:
        raise GitFailed("diff", 128, "fatal: broken")

    ground = replace(bench.ground(), marks=broken)
    found = await verify((CheckCommandSucceeds(command="true"), CheckFileAbsent(path="x")), ground)

    assert [finding.passed for finding in found] == [False, True]
    assert "git diff: exit code 128" in found[0].detail


async def test_what_a_check_leaves_running_is_ended_before_the_next_one(bench: Bench) -> None:
    left = "setsid sh -c 'echo $$ > left.log; while :; do echo again > made.log; sleep 0.01; done' >/dev/null 2>&1 & "
    checks = (
        CheckCommandSucceeds(command=left + "while [ ! -s left.log ]; do sleep 0.01; done", name="leaves"),
        CheckCommandSucceeds(command='! grep -q "State:.[RSD]" /proc/$(cat left.log)/status', name="is alone"),
    )

    found = await run(bench, *checks)

    assert [(finding.name, finding.passed) for finding in found] == [("leaves", True), ("is alone", True)]


async def test_no_checks_no_findings(bench: Bench) -> None:
    assert await run(bench) == ()


async def test_a_check_without_time_left_fails_and_says_so(bench: Bench) -> None:
    slow, late = await run(bench, CheckCommandSucceeds(command="sleep 60"), CheckFileExists(path="x"), timeout_s=0.3)

    assert slow.detail.startswith("took longer than 0.")
    assert late.detail == "not run: the 0.3 s for all checks are used up"


async def test_cancelling_passes_through_and_ends_the_command(bench: Bench) -> None:
    verifying = asyncio.create_task(run(bench, CheckCommandSucceeds(command="echo begun; sleep 60")))
    async with asyncio.timeout(5):
        await bench.until_logged("begun")
    verifying.cancel()

    with pytest.raises(asyncio.CancelledError):
        await verifying
    assert await bench.processes.end_attempt(ATTEMPT) == 0

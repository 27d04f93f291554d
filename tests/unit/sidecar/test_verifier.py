import asyncio

import pytest

from protocol.checks import Check, CheckCommandSucceeds, CheckFileExists
from protocol.model import Finding
from sidecar.verifier import verify
from tests.support.attempts import ATTEMPT, Bench


async def run(bench: Bench, *checks: Check, timeout_s: float = 20.0) -> tuple[Finding, ...]:
    return await verify(checks, bench.ground(timeout_s))


async def test_all_checks_run_in_order_whatever_the_first_one_finds(bench: Bench) -> None:
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
    assert lines == ["FAIL first - exit code 1", "PASS second", "PASS third"]


async def test_what_a_check_leaves_running_is_ended_before_the_next_one(bench: Bench) -> None:
    left = "setsid sh -c 'echo $$ > left; while :; do echo again > made; sleep 0.01; done' >/dev/null 2>&1 & "
    checks = (
        CheckCommandSucceeds(command=left + "while [ ! -s left ]; do sleep 0.01; done", name="leaves"),
        CheckCommandSucceeds(command='! grep -q "State:.[RSD]" /proc/$(cat left)/status', name="is alone"),
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

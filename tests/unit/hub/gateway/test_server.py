"""The promise of the gateway about frames: what belongs together goes together, and nothing changes its order."""

from hub.gateway.server import _together
from protocol.messages import Accept, AnyMessage, Heartbeat, Report
from protocol.model import AttemptId, AttemptState, TaskResult

WELL = TaskResult(execution_ok=True, verified=None)


def accept(number: int, task: str) -> Accept:
    return Accept(attempt=AttemptId("a", 1, task, 1), n=number)


def report(number: int, task: str, state: AttemptState = AttemptState.PASSED) -> Report:
    return Report(attempt=AttemptId("a", 1, task, 1), state=state, result=WELL, n=number)


def test_an_acceptance_goes_with_the_report_that_follows_it() -> None:
    found: list[AnyMessage] = [accept(1, "x"), report(2, "x"), accept(3, "y"), report(4, "y")]

    assert list(_together(found)) == [[(found[1], found[0]), (found[3], found[2])]]


def test_reports_that_stand_next_to_one_another_are_acted_on_together() -> None:
    found: list[AnyMessage] = [
        report(1, "x"),
        report(2, "y", AttemptState.FAILED),
        accept(3, "z"),
        report(4, "z"),
        accept(5, "w"),
        Heartbeat(sidecar="a", boot=1),
        report(6, "w"),
    ]

    x, y, z, accepted, heartbeat, w = found[0], found[1], (found[3], found[2]), found[4], found[5], found[6]
    assert list(_together(found)) == [[(x, None), (y, None), z], accepted, heartbeat, [(w, None)]]


def test_an_acceptance_goes_alone_before_anything_else() -> None:
    found: list[AnyMessage] = [
        accept(1, "x"),
        accept(2, "y"),
        report(3, "x"),
        Heartbeat(sidecar="a", boot=1),
        accept(4, "z"),
        report(5, "z", AttemptState.FAILED),
        accept(6, "v"),
        report(7, "w"),
        accept(8, "u"),
    ]

    assert list(_together(found)) == [[(each, None)] if isinstance(each, Report) else each for each in found]

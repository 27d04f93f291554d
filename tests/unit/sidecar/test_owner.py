"""The promises to the owner of a machine who takes the GPU back, and gives it again before the work has stopped."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from msgspec import Raw

from protocol import codec
from protocol.endpoints import EndpointKind, EndpointReport
from protocol.messages import Assign, Pause, Reclaim, Reject, Report
from protocol.model import AttemptState, Routing, TaskSpec, Usage
from protocol.progress import PAUSED
from sidecar.executors.base import Execution, Pauses, Work
from sidecar.executors.transcript import Transcript
from sidecar.llm.config import EndpointSettings
from sidecar.llm.endpoints import Endpoints
from sidecar.owner import Owner
from tests.support.runners import PATIENCE_S, TIER, Bench, attempt, make

ASKED: Final = "it is to stop"
"""Said at the end of a turn where there is no hub to keep the work in progress, by work that is to stop there."""
HERE: Final = EndpointSettings("here", EndpointKind.OLLAMA, "http://127.0.0.1:9")


class Turner:
    """An executor that works in one turn, for as long as it is told to."""

    name = "turner"
    pauses: Pauses = "turn"

    def __init__(self) -> None:
        self.begun, self.turn = asyncio.Event(), asyncio.Event()

    async def execute(self, work: Work) -> Execution:
        """Do one turn."""
        self.begun.set()
        await self.turn.wait()
        await work.turned(Transcript(turns=1, messages=()))
        return Execution(ok=True, output="done", summary="done", usage=Usage())


def _assign(number: int = 1) -> Assign:
    routing = Routing(tier=TIER, executor="turner", endpoint="here")
    spec = Raw(codec.encode_spec(TaskSpec(title="x")))
    return Assign(attempt=attempt(number), spec=spec, routing=routing, lease_s=30)


@dataclass
class Machine:
    """A runner with work of a model of this host in the middle of a turn, and the owner of the machine."""

    bench: Bench
    turner: Turner
    endpoints: Endpoints
    told: list[None] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.owner = Owner(self.bench.folder, self.bench.runner, self.endpoints, self.tell)

    def tell(self) -> None:
        """The hub is told what there is."""
        self.told.append(None)
        self._news.set()

    async def say(self, *, on: bool) -> None:
        """Take the GPU back, or give it again, and wait until the hub hears of it."""
        before = len(self.told)
        self.owner.hear(Reclaim(on=on, by="x"))
        async with asyncio.timeout(PATIENCE_S):
            while len(self.told) == before:
                self._news.clear()
                await self._news.wait()

    async def end(self) -> Report:
        """Let the turn end; the report of the attempt."""
        self.turner.turn.set()
        await self.bench.sent.until(lambda: self.bench.sent.of(Report))
        return self.bench.sent.of(Report)[0]


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    bench, turner, endpoints = make(tmp_path), Turner(), Endpoints((HERE,))
    bench.parts.executors["turner"] = turner  # type: ignore[index]  # a dict here
    made = Machine(bench, turner, endpoints)
    bench.runner.refuses = made.owner.refuses
    bench.runner.assigned(_assign())
    await turner.begun.wait()
    looking = asyncio.create_task(made.owner.run())
    yield made
    looking.cancel()
    await asyncio.wait({looking})
    await bench.runner.stop()
    await endpoints.close()
    bench.journal.close()


async def test_a_gpu_that_is_given_back_in_the_middle_of_a_turn_lets_the_work_go_on(machine: Machine) -> None:
    await machine.say(on=True)
    await machine.say(on=False)
    report = await machine.end()

    assert (report.state, report.result.error) == (AttemptState.PASSED, "")
    assert ASKED not in machine.bench.sent.output


async def test_a_gpu_that_is_taken_back_a_second_time_is_taken_back(machine: Machine) -> None:
    await machine.say(on=True)
    await machine.say(on=False)
    await machine.say(on=True)
    machine.bench.runner.assigned(_assign(2))

    assert machine.bench.sent.of(Report) == [], "the turn goes on"
    assert [reject.code for reject in machine.bench.sent.of(Reject)] == ["reclaimed"]


async def test_a_disk_that_takes_no_wish_ends_nothing(machine: Machine) -> None:
    blocked = machine.bench.folder / ".reclaimed.new"
    blocked.mkdir()
    machine.owner.hear(Reclaim(on=True, by="x"))
    blocked.rmdir()
    await machine.say(on=True)

    assert len(machine.told) == 1


async def test_no_timer_stops_the_work_after_the_gpu_was_given_back(machine: Machine) -> None:
    runner = machine.bench.runner
    runner.clear(lambda _endpoint: True, "wanted", 0.0)
    runner.go_on()
    for _ in range(10):  # turns of the event loop: the timer would be due in the first
        await asyncio.sleep(0)

    assert (await machine.end()).state is AttemptState.PASSED


async def test_work_that_does_not_end_its_turn_is_stopped_behind_the_last_one(machine: Machine) -> None:
    machine.bench.runner.clear(lambda _endpoint: True, "wanted", 0.0)
    await machine.bench.sent.until(lambda: machine.bench.sent.of(Report))

    (report,) = machine.bench.sent.of(Report)
    assert (report.result.error_code, report.result.error) == (PAUSED, "wanted")


async def test_work_that_a_person_has_paused_stays_paused_when_the_gpu_is_given_back(machine: Machine) -> None:
    machine.bench.runner.wish(Pause(attempt=attempt(), reason="a person paused it"))
    await machine.say(on=True)
    await machine.say(on=False)
    await machine.end()

    assert ASKED in machine.bench.sent.output


async def test_a_refusal_tells_the_hub_first_why_it_should_not_try_again(machine: Machine) -> None:
    await machine.say(on=True)
    told = len(machine.told)
    machine.bench.runner.assigned(_assign(2))

    assert len(machine.told) == told + 1
    assert [reject.code for reject in machine.bench.sent.of(Reject)] == ["reclaimed"]


def _command(number: int, *needs: str) -> Assign:
    spec = Raw(codec.encode_spec(TaskSpec(command="echo begun; sleep 600", needs=needs)))
    return Assign(attempt=attempt(number), spec=spec, routing=Routing(tier=TIER, executor="shell"), lease_s=30)


async def test_a_command_that_is_here_for_the_gpu_stops_at_once_and_goes_on_elsewhere(machine: Machine) -> None:
    machine.bench.runner.assigned(_command(2, "gpu"))
    await machine.bench.sent.until(lambda: "begun" in machine.bench.sent.output)
    await machine.say(on=True)
    await machine.bench.sent.until(lambda: machine.bench.sent.of(Report))

    (report,) = machine.bench.sent.of(Report)
    assert (report.attempt, report.state) == (attempt(2), AttemptState.CANCELLED)
    assert report.result.error_code == PAUSED
    assert "wants its GPU back" in report.result.error


async def test_while_the_gpu_is_taken_back_commands_for_it_are_refused_and_others_are_not(machine: Machine) -> None:
    await machine.say(on=True)
    machine.bench.runner.assigned(_command(2, "gpu"))
    machine.bench.runner.assigned(_command(3))
    await machine.bench.sent.until(lambda: "begun" in machine.bench.sent.output)

    assert [(each.attempt, each.code) for each in machine.bench.sent.of(Reject)] == [(attempt(2), "reclaimed")]


async def test_an_endpoint_that_people_have_added_counts_if_its_address_is_this_machines(machine: Machine) -> None:
    for name, url in (("near", "http://localhost:9"), ("far", "http://192.0.2.1:9")):
        machine.endpoints.adopt(EndpointReport(id=name, kind=EndpointKind.OLLAMA, url=url, local=True))

    assert [name for name in ("here", "near", "far", "none") if machine.endpoints.is_here(name)] == ["here", "near"]

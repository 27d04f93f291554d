"""The promises of readings: the scenes that go wrong raise the right alert once, and an hour of good work none."""

import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from hub.core.alerts import Alarms
from hub.core.fleet import Fleet
from hub.core.health import OFFLINE, Health
from hub.core.matching import match
from hub.core.tally import Tally
from hub.core.window import Window
from hub.readings import Readings
from hub.store.keeping_changes import KeepSample
from hub.store.sqlite import SqliteStore
from protocol.clock import Clock
from protocol.events import Event, EventKind
from protocol.ids import IdMaker
from protocol.machine import SpaceReport
from protocol.model import AgentState
from tests.support.machines import add, gpu, host, model
from tests.support.stores import Rows, new_task

K = EventKind
START_MS = 1_700_000_000_000


class Hand(Clock):
    ms = START_MS

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


class Night:
    """A hub's parts by hand, and what its alarms have said."""

    def __init__(self, store: SqliteStore) -> None:
        self.store, self.clock, self.fleet, self.window, self.tally = store, Hand(), Fleet(), Window(), Tally()
        self.readings = Readings(store, self.fleet, self.window, self.clock, self.tally, None)
        self.readings.match = lambda requirements: match(self.fleet, requirements)
        self.alarms, self.told = Alarms(), list[tuple[str, str]]()
        self._ids = (f"{number:04}" for number in itertools.count())
        self._make, self._seq = IdMaker(lambda _bits: 0).make, 0
        for name in ("a", "b"):
            add(self.fleet, name, model("m", 4.0))

    def tell(self, kind: K, task: str | None = None, **facts: object) -> None:
        self._seq += 1
        self.tally.add([Event(kind=kind, at_ms=self.clock.ms, seq=self._seq, task=task, facts=facts)])

    def work(self, end: K = K.TASK_COMPLETED) -> None:
        """A task that is done at once."""
        task = self._make(self.clock.ms)
        for kind in (K.TASK_QUEUED, K.TASK_ASSIGNED, K.TASK_STARTED, end):
            self.tell(kind, task, **({"by": "me"} if kind is K.TASK_QUEUED else {"execution_ok": True}))

    async def run(self, seconds: int, each: Callable[[], object] = lambda: None) -> None:
        """Time passes, ten seconds a look; machines that are online are heard."""
        for _ in range(seconds // 10):
            self.clock.ms += 10_000
            for agent in self.fleet.agents.values():
                if agent.state is not AgentState.OFFLINE:
                    agent.last_seen_ms = self.clock.ms
            each()
            found = self.alarms.judge(await self.readings.take(), self.clock.ms, self._ids)
            self.told += [(alert.rule, alert.state.value) for alert in found]


@pytest.fixture
async def night(tmp_path: Path) -> AsyncIterator[Night]:
    store = SqliteStore(tmp_path / "hub.sqlite")
    await store.open()
    made = Night(store)
    for agent in made.fleet.agents.values():
        assert agent.report is not None
    yield made
    await store.close()


@pytest.fixture(autouse=True)
def rules_without_clocks(night: Night) -> None:
    """The reports of these machines are from 1970: what is said of their clocks is not meant."""
    del night.alarms.rules["clock_skew"]


async def test_an_hour_of_good_work_raises_no_alert(night: Night) -> None:
    def busy() -> None:
        for number in range(5):
            night.work(K.TASK_FAILED if number == 0 else K.TASK_COMPLETED)

    await night.run(3_600, busy)

    assert night.told == []


async def test_a_machine_that_is_cut_off_is_told_once_and_ends_when_it_is_back(night: Night) -> None:
    night.fleet.agents["a"].fire("lose")
    night.fleet.agents["a"].last_seen_ms = night.clock.ms
    await night.run(300)
    assert night.told == [("agent_lost", "firing")]

    night.fleet.agents["a"].fire("join")
    await night.run(60)
    assert night.told == [("agent_lost", "firing"), ("agent_lost", "resolved")]


async def test_a_machine_that_said_goodbye_is_not_missed(night: Night) -> None:
    agent = night.fleet.agents["a"]
    agent.last_seen_ms, agent.is_leaving = night.clock.ms, True
    agent.fire("lose")
    await night.run(600)

    assert night.told == []


async def test_a_hub_that_was_killed_is_told_and_that_ends_by_itself(night: Night) -> None:
    night.tell(K.HUB_LOST, hub=7)
    await night.run(900)

    assert night.told == [("hub_lost", "firing"), ("hub_lost", "resolved")]


async def test_a_disk_that_fills_up_is_told_until_there_is_room(night: Night) -> None:
    agent = night.fleet.agents["a"]
    assert agent.report is not None
    full = SpaceReport(total_bytes=100 << 30, used_bytes=97 << 30)
    before, agent.report = agent.report, host(gpu(24))
    agent.report = type(before)(cpu=before.cpu, ram=before.ram, disk=full, gpus=(), at=before.at)
    await night.run(300)
    agent.report = before
    await night.run(60)

    assert night.told == [("host_disk", "firing"), ("host_disk", "resolved")]


async def test_many_failures_are_told(night: Night) -> None:
    def failing() -> None:
        night.work(K.TASK_DEAD)

    await night.run(300, failing)
    assert night.told == [("failure_rate", "firing")]
    await night.run(3_600, night.work)
    assert night.told == [("failure_rate", "firing"), ("failure_rate", "resolved")]


async def kept(night: Night, *samples: dict[str, float]) -> None:
    """What a hub that ran before has kept of its last minutes, oldest first."""
    for number, sample in enumerate(samples):
        at_s = night.clock.ms // 1000 - 60 * (len(samples) - number)
        await night.store.commit(KeepSample(step_s=60, at_s=at_s, body=msgspec.msgpack.encode(sample), before_s=0))


async def begin(night: Night) -> None:
    """As alerting does when its hub begins to judge."""
    past = await night.readings.recall()
    assert past is not None
    for at_ms, readings in past:
        night.alarms.remember(readings, at_ms)


async def test_a_hub_that_was_restarted_knows_the_minutes_before(night: Night) -> None:
    for _ in range(12):
        night.work(K.TASK_DEAD)
    await kept(night, *[{"tasks_completed": 0, "tasks_failed": 3}] * 5)
    await begin(night)
    await night.run(20)
    assert night.told == [("failure_rate", "firing")], "it was so for minutes"

    await night.run(1_200, night.work)
    assert night.told == [("failure_rate", "firing"), ("failure_rate", "resolved")]


async def test_a_queue_that_grew_before_a_restart_goes_on_growing_after_it(night: Night) -> None:
    await Rows(night.store).add(*(new_task(number) for number in range(1, 1_101)))
    await kept(night, *({"tasks_queued": 1_060 + minute} for minute in range(38)))
    await begin(night)
    await night.run(20)

    assert night.told == [("queue_growing", "firing")]


async def test_what_is_asked_for_once_a_minute_is_known_from_the_first_look_on(night: Night) -> None:
    night.clock.ms += 50_000
    await kept(night, {"tasks_queued": 1})
    night.clock.ms -= 50_000  # that was ten seconds ago
    night.readings.overdue = lambda: 2.5
    await begin(night)

    assert "backup_overdue" in {reading.rule for reading in await night.readings.take()}


async def test_nothing_is_judged_before_the_counts_are_those_of_the_log(night: Night) -> None:
    night.readings.is_behind = lambda: True

    assert await night.readings.recall() is None


async def test_a_key_that_is_in_use_twice_is_told_until_a_person_has_decided(night: Night) -> None:
    agent = night.fleet.agent("copied")
    agent.quarantine = "its key is in use on a and on b"
    await night.run(7_200)
    assert night.told == [("agent_cloned", "firing")]
    agent.released(is_away=True)
    await night.run(600)

    assert night.told == [("agent_cloned", "firing"), ("agent_cloned", "resolved")]


async def test_work_that_nobody_can_do_is_told_by_tier(night: Night) -> None:
    night.window.add('{"executor":"shell","strategies":["trivial"],"needs":["fpga"]}', (2, "0" * 26))
    await night.run(600)

    assert night.told == [("no_agent_for_tier", "firing")]
    [alert] = night.alarms.open.values()
    assert (alert.subject, alert.value) == ("trivial", 1)


async def test_an_attempt_of_which_nothing_is_heard_is_told(night: Night) -> None:
    night.tell(K.TASK_ASSIGNED, "01" + "0" * 24)
    await night.run(6 * 3_600 - 60)
    assert night.told == []
    await night.run(120)
    assert night.told == [("task_stuck", "firing")]


async def test_an_endpoint_that_does_not_answer_and_work_that_falls_back_are_told(night: Night) -> None:
    night.fleet.health["", "ollama"] = Health(state=OFFLINE, since_ms=night.clock.ms, problem="refused")
    await night.run(60)
    for _ in range(5):
        night.tell(K.TASK_FELL_BACK, wanted="cloud_llm", used="local_llm", lower=True)
    await night.run(120)

    assert night.told == [("endpoint_down", "firing"), ("tier_fallback", "firing")]


async def test_an_old_backup_is_told(night: Night) -> None:
    night.readings.overdue = lambda: 2.5
    await night.run(60)
    night.readings.overdue = lambda: 0.0
    await night.run(120)

    assert night.told == [("backup_overdue", "firing"), ("backup_overdue", "resolved")]

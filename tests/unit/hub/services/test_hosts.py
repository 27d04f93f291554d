"""Promises of :mod:`hub.services.hosts`."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import msgpack
from msgspec.structs import replace

from hub.core.explain import waiting
from hub.core.fleet import Fleet
from hub.core.matching import match, reasons_against
from hub.core.measures import Measure
from hub.core.routing import Requirements
from hub.services.hosts import MAX_SAVED, Hosts
from hub.store.hub_changes import KeepMeasures
from hub.store.sqlite import SqliteStore
from protocol.errors import NotFound
from protocol.machine import GpuCard, GpuGauge, HostReading, SpaceReport
from protocol.messages import Heartbeat
from protocol.model import AgentState, EndpointKind, EndpointReport, Strategy
from tests.support.machines import add, gpu, host, model

AT = datetime(2026, 1, 1, tzinfo=UTC)
SHELL = Requirements(executor="shell", strategies=(Strategy.TRIVIAL,))
CARD = GpuCard(vendor="nvidia", index=0, uuid="GPU-1", name="L40S", vram_total_bytes=48)


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def monotonic(self) -> float:
        return self.now

    def now_ms(self) -> int:
        return int(self.now * 1000)


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    made = SqliteStore(":memory:")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def fleet() -> Fleet:
    made = Fleet()
    for name, box in (("Boo", "box"), ("Zap", "box"), ("Kiss", "")):
        agent = made.agent(name)
        agent.capabilities = frozenset({"executor:shell"})
        agent.host, agent.state = box, AgentState.IDLE
    return made


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def hosts(store: SqliteStore, fleet: Fleet, clock: Hand) -> Hosts:
    return Hosts(store, fleet, clock)


def beat(cpu: float, **over: Any) -> Heartbeat:
    values: dict[str, Any] = {"at": AT, "cpu_percent": cpu, "cores": b"\x05", "ram": (16, 8)}
    return Heartbeat(sidecar="x", boot=1, reading=HostReading(**(values | over)))


def cpu_of(hosts: Hosts, name: str, span: str = "minute") -> tuple[float | None, ...]:
    (found,) = (each.mean for each in hosts.history(name, span).series if each.metric == "cpu_percent")
    return found


def test_a_machine_is_shown_with_all_that_its_sidecar_has_told(hosts: Hosts, fleet: Fleet) -> None:
    gauge = GpuGauge(utilization=7, used_bytes=9)
    hosts.heard(fleet.agents["Boo"], beat(5, gpus=(gauge,), cards=(CARD,), notes={"amd": "x"}))
    hosts.heard(fleet.agents["Boo"], beat(6, gpus=(gauge,), swap=(4, 1)))
    view = hosts.host("box")

    assert (view.name, view.agents, view.online, view.notes) == ("box", ("Boo", "Zap"), True, {"amd": "x"})
    assert view.cpu is not None
    assert (view.cpu.percent, view.swap) == (6, SpaceReport(total_bytes=4, used_bytes=1))
    assert [(each.name, each.utilization) for each in view.gpus] == [("L40S", 7.0)]
    assert [each.name for each in hosts.hosts().hosts] == ["Kiss", "box"]


def test_a_whole_report_counts_as_well(hosts: Hosts, fleet: Fleet) -> None:
    hosts.heard(fleet.agents["Boo"], Heartbeat(sidecar="x", boot=1, host=host(gpu(24))))
    hosts.heard(fleet.agents["Boo"], Heartbeat(sidecar="x", boot=1))

    assert len(hosts.host("box").gpus) == 1


def test_a_machine_that_nobody_is_on_is_not_found(hosts: Hosts) -> None:
    with pytest.raises(NotFound):
        hosts.host("nowhere")
    with pytest.raises(NotFound):
        hosts.history("nowhere", "minute")


def test_a_machine_that_has_told_nothing_has_no_history(hosts: Hosts) -> None:
    assert hosts.history("Kiss", "hour").series == ()
    assert not hosts.host("Kiss").gpus


def test_a_minute_and_an_hour_are_answered(hosts: Hosts, fleet: Fleet, clock: Hand) -> None:
    for cpu in range(0, 130, 5):
        hosts.heard(fleet.agents["Boo"], beat(float(cpu)))
        clock.now += 5

    assert cpu_of(hosts, "box") == tuple(float(cpu) for cpu in range(75, 130, 5))
    assert len(cpu_of(hosts, "box", "hour")) == 3
    assert len(hosts.history("box", "hour").at) == 3


def test_of_two_sidecars_on_a_machine_one_writes_its_history(hosts: Hosts, fleet: Fleet, clock: Hand) -> None:
    for _ in range(3):
        hosts.heard(fleet.agents["Boo"], beat(1))
        hosts.heard(fleet.agents["Zap"], beat(99))
        clock.now += 5
    assert cpu_of(hosts, "box") == (1, 1, 1)
    clock.now += 15  # the first is gone
    hosts.heard(fleet.agents["Zap"], beat(99))

    assert cpu_of(hosts, "box") == (1, 1, 1, 99)


# --- over a restart ---------------------------------------------------------------------------------------------------


async def stored(store: SqliteStore, about: str = "host") -> dict[str, bytes]:
    await store.commit(KeepMeasures(at_ms=1, measures=(), most=1))  # what was posted before is written by now
    return {measure.name: measure.value for measure in await store.measures() if measure.about == about}


async def test_machines_are_stored_once_a_minute_and_their_hour_every_ten(
    hosts: Hosts, fleet: Fleet, clock: Hand, store: SqliteStore
) -> None:
    hours = []
    for minute in range(21):
        hosts.heard(fleet.agents["Boo"], beat(float(minute)))
        hosts.save()
        hosts.heard(fleet.agents["Boo"], beat(99.0))
        hosts.save()
        assert msgpack.decode((await stored(store))["box"])["cpu"]["percent"] == minute
        hours.append((await stored(store, "host_hour")).get("box"))
        clock.now += 60

    assert hours[:9] == [None] * 9
    assert len(set(hours[9:19])) == 1
    assert hours[19] not in {None, hours[9]}


async def test_a_machine_that_reports_nothing_new_is_not_stored_again(
    hosts: Hosts, fleet: Fleet, clock: Hand, store: SqliteStore
) -> None:
    hosts.heard(fleet.agents["Boo"], beat(1))
    hosts.save()
    await stored(store)
    before = store.changes
    clock.now += 600
    hosts.save()
    await stored(store)

    assert store.changes == before + 1  # that of looking


async def test_a_large_fleet_is_stored_bit_by_bit(fleet: Fleet, store: SqliteStore, hosts: Hosts) -> None:
    for number in range(MAX_SAVED + 10):
        agent = fleet.agent(f"Many{number:03}")
        hosts.heard(agent, beat(1))
    hosts.save()
    first = len(await stored(store))
    hosts.save()

    assert (first, len(await stored(store))) == (MAX_SAVED, MAX_SAVED + 10)


async def test_what_was_stored_is_known_to_the_next_hub(
    hosts: Hosts, fleet: Fleet, clock: Hand, store: SqliteStore
) -> None:
    hosts.heard(fleet.agents["Boo"], beat(42, gpus=(GpuGauge(utilization=7),), cards=(CARD,)))
    hosts.save_all()
    again = Hosts(store, fleet, clock)
    fleet.agents["Boo"].report = None
    again.restore(await store.start())
    view = again.host("box")

    assert view.cpu is not None
    assert (view.cpu.percent, view.at, view.gpus[0].uuid) == (42, AT, "GPU-1")
    assert cpu_of(again, "box", "hour") == (42,)
    assert again.history("box", "minute").series == ()


@pytest.mark.parametrize(
    "measure",
    [
        Measure("host", "box", b"\xc1"),
        Measure("host", "box", msgpack.encode({"a": 1})),
        Measure("host_hour", "box", b"\xc1"),
        Measure("host", "gone", msgpack.encode(host())),
        Measure("speeds", "box", msgpack.encode(host())),
    ],
)
async def test_what_is_of_another_version_or_of_no_machine_is_passed_over(
    hosts: Hosts, store: SqliteStore, measure: Measure
) -> None:
    await store.commit(KeepMeasures(at_ms=1, measures=(measure,), most=9))
    hosts.restore(await store.start())

    assert hosts.host("box").at is None
    assert hosts.history("box", "hour").series == ()


def test_a_machine_whose_agents_are_all_forgotten_is_forgotten(hosts: Hosts, fleet: Fleet) -> None:
    hosts.heard(fleet.agents["Kiss"], beat(1))
    fleet.forget("Kiss")
    hosts.save()
    agent = fleet.agent("Kiss")  # another one of that name

    assert agent.report is None
    assert hosts.history("Kiss", "minute").series == ()


def reading(free_gb: float) -> Heartbeat:
    """A heartbeat of a machine with so much room for workspaces."""
    space = SpaceReport(total_bytes=100 * 10**9, used_bytes=int((100 - free_gb) * 10**9))
    return Heartbeat(sidecar="Boo", boot=1, host=replace(host(), workspace=space))


async def test_a_machine_whose_disk_is_full_gets_no_work_until_it_has_room_again(
    store: SqliteStore, fleet: Fleet, clock: Hand
) -> None:
    hosts, agent = Hosts(store, fleet, clock, workspace_bytes=10**9), fleet.agents["Boo"]
    states, generations = [], []
    for free_gb in (2.0, 1.0, 0.9, 0.5, 1.05, 1.2):
        hosts.heard(agent, reading(free_gb))
        states.append(bool(reasons_against(agent, SHELL)))
        generations.append(fleet.generation)

    assert states == [False, False, True, True, True, False]  # a tenth more, so that work does not come and go
    assert len(set(generations)) == 3
    hosts.heard(agent, reading(0.25))
    assert reasons_against(agent, SHELL) == ["has 0.25 GB of disk free, a workspace needs 1.00 GB"]
    assert reasons_against(agent, replace(SHELL, executor="noop")) == ["lacks 'executor:noop'"]
    for other in ("Zap", "Kiss"):
        fleet.forget(other)
    assert waiting(fleet, SHELL)[1] == ("free some disk on a host: agentcom hosts ls",)


async def test_work_goes_down_its_chain_past_a_machine_without_disk(
    store: SqliteStore, fleet: Fleet, clock: Hand
) -> None:
    chat = Requirements(executor="chat", strategies=(Strategy.LOCAL_LLM, Strategy.CLOUD_LLM))
    hosts = Hosts(store, fleet, clock, workspace_bytes=10**9)
    add(fleet, "Boo", model("m"))
    fleet.agents["Zap"].capabilities = frozenset({"executor:chat"})
    fleet.agents["Zap"].endpoints = (
        EndpointReport(id="c", kind=EndpointKind.ANTHROPIC, url="", local=False, default_model="claude"),
    )
    before = match(fleet, chat)
    hosts.heard(fleet.agents["Boo"], reading(0.5))
    after = match(fleet, chat)

    assert [(way.agent, way.strategy.value) for way in (*before.ways, *after.ways)] == [
        ("Boo", "local_llm"),
        ("Zap", "cloud_llm"),
    ]
    against = {each.agent: each.reasons for each in after.candidates if each.strategy is Strategy.LOCAL_LLM}
    assert against["Boo"] == ("has 0.50 GB of disk free, a workspace needs 1.00 GB",)


@pytest.mark.parametrize("needed", [0, 10**9], ids=["any disk will do", "it says nothing of its disk"])
async def test_a_disk_that_nobody_asks_about_or_knows_of_keeps_no_work_away(
    store: SqliteStore, fleet: Fleet, clock: Hand, needed: int
) -> None:
    hosts, agent = Hosts(store, fleet, clock, workspace_bytes=needed), fleet.agents["Boo"]
    nothing = SpaceReport(total_bytes=0, used_bytes=0)
    told = reading(0.0) if not needed else Heartbeat(sidecar="Boo", boot=1, host=replace(host(), disk=nothing))
    hosts.heard(agent, told)

    assert agent.cramped == ""

"""What sidecars tell of endpoints, and what the hub sees, become states that scheduler and store know at once."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

import pytest
from msgspec.structs import replace

from hub.core.fleet import Fleet
from hub.services.health import LOST, EndpointHealth
from hub.store.sqlite import SqliteStore
from protocol.endpoints import EndpointKind, EndpointReport, EndpointTrouble, ModelReport, Residency
from protocol.messages import Heartbeat
from protocol.model import AgentState, Usage

KEY = ("box", "ollama")
WARM = ModelReport(
    name="m", residency=Residency.WARM, vram_bytes=6, resident_bytes=7, expires_at=datetime(2300, 1, 1, tzinfo=UTC)
)


def report(name: str = "ollama", *models: ModelReport, remark: str = "") -> EndpointReport:
    return EndpointReport(id=name, kind=EndpointKind.OLLAMA, url="u", local=True, models=models, remark=remark)


def trouble(
    name: str = "ollama", *, refusals: int = 0, added: bool = False, retry_after_s: float | None = None
) -> EndpointTrouble:
    return EndpointTrouble(
        endpoint=name,
        kind=EndpointKind.OLLAMA,
        url="u",
        local=True,
        problem="trouble",
        added=added,
        refusals=refusals,
        retry_after_s=retry_after_s,
    )


class Time:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000


@dataclass
class Setting:
    """A hub that knows one machine."""

    store: SqliteStore
    fleet: Fleet
    clock: Time
    care: EndpointHealth

    def beat(
        self,
        *,
        endpoints: tuple[EndpointReport, ...] | None = None,
        troubles: tuple[EndpointTrouble, ...] | None = None,
        agent: str = "a",
        boot: int = 1,
    ) -> None:
        known = self.fleet.agent(agent)
        known.host, known.boot, known.state = "box", boot, AgentState.IDLE
        self.care.heard(known, Heartbeat(sidecar=agent, boot=boot, endpoints=endpoints, troubles=troubles))
        if endpoints is not None:
            known.endpoints = endpoints

    def state(self, key: tuple[str, str] = KEY) -> str:
        return self.fleet.health[key].state.value

    async def again(self) -> "Setting":
        """Another hub on the same store."""
        await self.store.healths()  # after everything that was posted
        fleet = Fleet()
        care = EndpointHealth(self.store, fleet, self.clock, Random(1))
        care.restore(await self.store.start())
        return Setting(self.store, fleet, self.clock, care)

    async def events(self) -> list[str]:
        return [event.kind.value for event in await self.store.events(0, 100)]


@pytest.fixture
async def hub() -> AsyncIterator[Setting]:
    store = SqliteStore(":memory:")
    await store.open()
    fleet, clock = Fleet(), Time()
    yield Setting(store, fleet, clock, EndpointHealth(store, fleet, clock, Random(1)))
    await store.close()


async def test_an_endpoint_that_goes_silent_is_offline_and_one_that_is_back_is_online(hub: Setting) -> None:
    hub.beat(endpoints=(report(),), troubles=())
    first, changes = hub.state(), hub.fleet.generation
    hub.beat(endpoints=(), troubles=(trouble(),))
    second, problem = hub.state(), hub.fleet.health[KEY].problem
    assert hub.fleet.generation > changes
    hub.beat(endpoints=(report(),), troubles=())

    assert (first, second, hub.state(), problem) == ("online", "offline", "online", "trouble")
    await hub.again()
    assert await hub.events() == ["endpoint_down", "endpoint_up"]


async def test_a_refusal_is_a_cooldown_that_time_and_one_success_end(hub: Setting) -> None:
    hub.beat(endpoints=(report(),), troubles=(trouble(refusals=1, retry_after_s=30.0),))
    cold, until_ms = hub.state(), hub.fleet.health[KEY].until_ms
    hub.beat(troubles=(trouble(refusals=1, retry_after_s=30.0),))  # told again: nothing new
    assert hub.fleet.health[KEY].until_ms == until_ms
    assert until_ms is not None
    hub.clock.ms = until_ms
    hub.care.pass_time()
    trial = hub.state()
    hub.beat(troubles=())

    assert (cold, trial, hub.state()) == ("cooldown", "half_open", "online")
    assert 30_000 <= until_ms - 1_000_000 <= 37_500


async def test_a_server_that_refused_work_and_is_gone_has_not_done_well(hub: Setting) -> None:
    hub.beat(endpoints=(report(),), troubles=(trouble(refusals=1),))
    hub.beat(endpoints=(), troubles=(trouble(),))

    assert hub.state() == "offline"


async def test_a_success_that_only_its_report_tells_of_ends_a_trial(hub: Setting) -> None:
    hub.care.answered(("", "big"), report("big"))
    hub.beat(endpoints=(), troubles=(trouble("big", added=True, refusals=1, retry_after_s=1.0),))
    hub.clock.ms += 5_000
    hub.care.pass_time()
    trial = hub.state(("", "big"))
    hub.care.used(("", "big"), Usage(model="m", output_tokens=0))
    hub.care.used(("", "big"), Usage(model="m", output_tokens=3))

    assert (trial, hub.state(("", "big"))) == ("half_open", "online")


async def test_two_servers_of_one_name_on_one_machine_are_told_apart(hub: Setting) -> None:
    other = replace(report(), url="v")
    hub.beat(agent="a", endpoints=(report(),), troubles=())
    hub.beat(agent="b", endpoints=(other,), troubles=())
    hub.beat(agent="c", endpoints=(report(),), troubles=())  # the same as the first
    hub.beat(agent="b", troubles=(replace(trouble(refusals=1), url="v"),))
    both = (hub.state(), hub.state(("box", "ollama@b")))
    hub.beat(agent="b", endpoints=(), troubles=(replace(trouble(), url="v"),))
    after = await hub.again()
    after.beat(agent="b", endpoints=(other,), troubles=())  # the first to come back

    assert both == ("online", "cooldown")
    assert (hub.state(), hub.state(("box", "ollama@b"))) == ("online", "offline")
    assert set(hub.fleet.health) == {KEY, ("box", "ollama@b")}
    assert (after.state(("box", "ollama@b")), after.fleet.seen[KEY].url) == ("cooldown", "u")


async def test_a_server_that_has_moved_is_the_same_one(hub: Setting) -> None:
    hub.beat(endpoints=(report(),), troubles=())
    hub.beat(endpoints=(replace(report(), url="v"),), troubles=())

    assert set(hub.fleet.health) == {KEY}
    assert hub.fleet.seen[KEY].url == "v"


async def test_another_hub_knows_all_of_it(hub: Setting) -> None:
    hub.beat(endpoints=(report("ollama", WARM), report("odd", remark="lists too much")), troubles=(trouble("gone"),))
    hub.beat(troubles=(trouble("gone"), trouble("odd", refusals=3, retry_after_s=60.0)))

    after = await hub.again()

    assert after.fleet.health == hub.fleet.health
    assert after.fleet.seen == hub.fleet.seen
    assert [after.state(("box", name)) for name in ("ollama", "odd", "gone")] == ["online", "cooldown", "offline"]
    assert after.fleet.seen[KEY].models == (WARM,)


async def test_models_that_come_and_go_are_stored_in_the_next_round(hub: Setting) -> None:
    hub.beat(endpoints=(report(),), troubles=())
    hub.beat(endpoints=(report("ollama", WARM),))
    before = (await hub.again()).fleet.seen[KEY].models
    hub.care.keep()

    assert (before, (await hub.again()).fleet.seen[KEY].models) == ((), (WARM,))


async def test_what_no_sidecar_of_a_machine_tells_of_any_more_is_gone(hub: Setting) -> None:
    hub.beat(endpoints=(report(), report("nas")), troubles=())
    hub.beat(endpoints=(report(),), troubles=(), agent="b")
    hub.beat(endpoints=(report("nas"),), troubles=())
    shared = hub.state()
    hub.beat(endpoints=(), troubles=(), agent="b")

    assert (shared, hub.state(), hub.fleet.health[KEY].problem) == ("online", "offline", LOST)
    assert hub.state(("box", "nas")) == "online"


async def test_a_sidecar_that_knows_nothing_of_troubles_is_believed_what_it_says(hub: Setting) -> None:
    hub.fleet.agent("a").endpoints = (report(),)
    hub.beat()
    hub.beat(endpoints=())

    assert hub.state() == "online"


async def test_an_endpoint_that_people_have_removed_does_not_come_back_by_a_trouble(hub: Setting) -> None:
    hub.beat(endpoints=(), troubles=(trouble("big", added=True, refusals=1),))

    assert hub.fleet.health == {}


async def test_machines_that_nobody_knows_any_more_are_forgotten(hub: Setting) -> None:
    hub.beat(endpoints=(report(),), troubles=())
    hub.fleet.forget("a")
    hub.care.keep()

    assert hub.fleet.health == {}
    assert (await hub.again()).fleet.health == {}


async def test_each_new_refusal_is_told_to_who_counts_turns(hub: Setting) -> None:
    told = list[tuple[tuple[str, str], str]]()
    hub.care.on_refusal = lambda key, seen: told.append((key, seen.id))
    hub.beat(endpoints=(report(),), troubles=(trouble(refusals=1),))
    hub.beat(troubles=(trouble(refusals=1),))
    hub.beat(troubles=(trouble(refusals=2),))
    hub.beat(troubles=(trouble(),))

    assert told == [(KEY, "ollama")] * 2


async def test_a_refusal_that_is_told_again_to_the_next_hub_is_not_counted_again(hub: Setting) -> None:
    hub.beat(endpoints=(report(),), troubles=(trouble(refusals=1),))
    hub.clock.ms += 1_000
    hub.beat(troubles=(trouble(refusals=2),))
    after, told = await hub.again(), list[str]()
    after.care.on_refusal = lambda _key, seen: told.append(seen.id)
    until_ms, after.clock.ms = hub.fleet.health[KEY].until_ms, hub.clock.ms + 2_000
    after.beat(endpoints=(report(),), troubles=(trouble(refusals=2),))
    same = after.fleet.health[KEY]
    after.beat(troubles=(trouble(refusals=3),))

    assert (same.refusals, same.until_ms, told) == (2, until_ms, ["ollama"])
    assert after.fleet.health[KEY].refusals == 3


async def test_a_sidecar_that_starts_again_counts_from_nothing(hub: Setting) -> None:
    hub.beat(endpoints=(report(),), troubles=(trouble(refusals=2),))
    hub.beat(endpoints=(report(),), troubles=(trouble(refusals=1),), boot=2)

    assert hub.fleet.health[KEY].refusals == 2
    assert hub.fleet.health[KEY].told == (("a", 2, 1),)


async def test_a_refusal_that_ended_is_not_remembered(hub: Setting) -> None:
    hub.beat(endpoints=(report(),), troubles=(trouble(refusals=1),))
    hub.beat(troubles=(trouble(),))
    hub.care.keep()

    assert (await hub.again()).fleet.health[KEY].told == ()


async def test_a_change_of_health_concerns_the_sidecars_of_its_machine(hub: Setting) -> None:
    hub.beat(endpoints=(report(),), troubles=())
    hub.fleet.agent("other").host = "elsewhere"
    before = hub.fleet.generation
    hub.beat(endpoints=(report(),), troubles=(trouble(refusals=1),))
    near = hub.fleet.changed_since(before)
    before = hub.fleet.generation
    hub.care.answered(("", "big"), report("big"))

    assert near == {"a"}
    assert hub.fleet.changed_since(before) is None


async def test_nothing_is_kept_of_sidecars_that_are_gone(hub: Setting) -> None:
    hub.beat(endpoints=(report(),), troubles=())
    for number in range(50):
        hub.beat(agent=f"n{number}", endpoints=(report(),), troubles=(trouble(refusals=1),))
        hub.fleet.forget(f"n{number}")
    hub.care.keep()

    assert hub.care.sidecars == {"a"}
    assert hub.fleet.health[KEY].told == ()


async def test_an_endpoint_that_only_a_forgotten_sidecar_told_of_is_gone(hub: Setting) -> None:
    hub.beat(endpoints=(report("nas"),), troubles=(), agent="b")
    hub.beat(endpoints=(report(),), troubles=())
    hub.fleet.forget("b")
    hub.care.keep()
    hub.beat(endpoints=(report(),), troubles=())

    assert (hub.state(("box", "nas")), hub.state()) == ("offline", "online")

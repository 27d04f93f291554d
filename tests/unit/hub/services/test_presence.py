"""The promises about agents that come twice at once: the newest start counts, and nothing of an older one does."""

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from hub.clock import SystemClock
from hub.core.agent import Held
from hub.core.fleet import Fleet
from hub.core.routing import Placement, Requirements, encode_placement
from hub.core.speeds import ServerKey
from hub.core.window import Window
from hub.services.presence import MAX_AGENTS, Presence
from hub.services.results import Results
from hub.store.changes import Promote, Unwilling
from hub.store.refusals import Cloned, Evicted, NameTaken, Overtaken
from hub.store.sqlite import SqliteStore
from protocol.errors import Overloaded
from protocol.messages import Heartbeat, HeldAttempt, Hello
from protocol.model import AgentState, AttemptId, AttemptState, EndpointKind, EndpointReport, Strategy, TaskState
from tests.support.stores import Rows, new_task, task_id


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    made = SqliteStore(":memory:")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def presence(store: SqliteStore, fleet: Fleet) -> Presence:
    results = Results(store, fleet, Window(), SystemClock(), Random(1))
    return Presence(store, fleet, SystemClock(), lease_s=30.0, lose=results.lose, send=lambda *_: None)


def hello(boot: int, *capabilities: str, **more: Any) -> Hello:
    values: dict[str, Any] = {"sidecar": "a", "host": "h", "slots": 1, "version": "1", **more}
    return Hello(protocol=(1, 1), boot=boot, capabilities=capabilities or ("x",), **values)


async def test_of_two_starts_that_come_at_once_only_the_newer_one_is_let_in(presence: Presence, fleet: Fleet) -> None:
    old, new = await asyncio.gather(presence.hello(hello(1)), presence.hello(hello(2)), return_exceptions=True)

    assert isinstance(old, Evicted)
    assert new == ((), [])
    assert fleet.agents["a"].boot == 2


async def test_an_agent_gets_work_only_when_its_newest_start_was_welcomed(presence: Presence, fleet: Fleet) -> None:
    await presence.hello(hello(1))
    await presence.hello(hello(2))
    states: list[AgentState] = []
    for boot in (1, 2):
        presence.ready("a", boot)
        states.append(fleet.agents["a"].state)

    assert states == [AgentState.OFFLINE, AgentState.IDLE]


async def test_a_heartbeat_of_an_older_start_says_nothing_about_the_newer_one(presence: Presence, fleet: Fleet) -> None:
    await presence.hello(hello(2, "gpu"))
    presence.ready("a", 2)
    presence.heartbeat("a", Heartbeat(sidecar="a", boot=1, capabilities=("old",), draining=True))
    assert fleet.agents["a"].capabilities == frozenset({"gpu"})
    assert fleet.agents["a"].free_slots == 1

    presence.heartbeat("a", Heartbeat(sidecar="a", boot=2, capabilities=("new",)))
    assert fleet.agents["a"].capabilities == frozenset({"new"})


# --- one key, twice ---------------------------------------------------------------------------------------------------


async def test_a_start_that_signed_before_a_newer_one_came_is_no_clone_and_one_that_signs_after_it_is(
    presence: Presence, fleet: Fleet, store: SqliteStore
) -> None:
    await presence.hello(hello(1), 0.0)
    await presence.hello(hello(2), 0.0)
    came_at = fleet.agents["a"].boot_at
    with pytest.raises(Overtaken):
        await presence.hello(hello(1), came_at)  # asked to sign, killed, and its answer was read late
    assert presence.agent("a").quarantine == ""
    with pytest.raises(Cloned, match="agentcom agents release a"):
        await presence.hello(hello(1), came_at + 0.001)

    assert presence.agent("a").quarantine == "its key is in use on h (boot 2) and on h (boot 1)"
    assert fleet.agents["a"].free_slots == 0
    assert (await kinds(store))[-2:] == ["agent_cloned", "agent_quarantined"]


async def test_only_an_agent_at_no_hub_forgets_which_start_was_its_newest_when_it_is_released(
    presence: Presence, fleet: Fleet, store: SqliteStore
) -> None:
    await presence.hello(hello(2), 0.0)
    presence.ready("a", 2)
    for boot in (2, 0):
        presence.cloned(hello(1))
        await presence.release("a", "me")
        assert fleet.agents["a"].boot == boot
        presence.gone("a", 2)
        await kinds(store)
    await presence.release("a", "me")

    assert (await store.agents())[0].boot == 0
    assert (await kinds(store)).count("agent_released") == 2


# --- two of one name --------------------------------------------------------------------------------------------------


async def kinds(store: SqliteStore) -> list[str]:
    await store.commit(Promote(at_ms=1))  # what was posted before stands then
    return [event.kind.value for event in await store.events(0, 100)]


async def test_an_older_start_that_comes_back_is_a_clone_and_is_told_of_once(
    presence: Presence, fleet: Fleet, store: SqliteStore
) -> None:
    await presence.hello(hello(1, instance="same"))
    await presence.hello(hello(2, instance="same", host="elsewhere"))
    for _ in range(3):
        with pytest.raises(Evicted, match="use another --name"):
            await presence.hello(hello(1, instance="same"))

    assert (await kinds(store)).count("agent_cloned") == 1
    assert "another sidecar of this name, on h (boot 1), was evicted" in presence.agent("a").alarm
    assert fleet.agents["a"].boot == 2


async def test_a_newer_start_from_the_same_state_directory_is_a_restart_and_no_alarm(
    presence: Presence, store: SqliteStore
) -> None:
    await presence.hello(hello(1, instance="same"))
    presence.ready("a", 1)
    await presence.hello(hello(2, instance="same"))

    assert "agent_cloned" not in await kinds(store)
    assert presence.agent("a").alarm == ""


@pytest.mark.parametrize("boot", [1, 9], ids=["older", "newer"])
async def test_another_state_directory_does_not_take_a_name_from_a_sidecar_at_work(
    presence: Presence, store: SqliteStore, boot: int
) -> None:
    await presence.hello(hello(5, instance="one"))
    presence.ready("a", 5)
    with pytest.raises(NameTaken, match="another sidecar named 'a' is at work on h; use another --name"):
        await presence.hello(hello(boot, instance="two", host="elsewhere"))

    assert (await kinds(store)).count("agent_cloned") == 1
    assert presence.agent("a").boot_epoch == 5
    assert presence.agent("a").state is AgentState.IDLE


@pytest.mark.parametrize("boot", [1, 9], ids=["older", "newer"])
async def test_another_state_directory_may_have_a_name_that_nobody_uses_now(
    presence: Presence, store: SqliteStore, boot: int
) -> None:
    # The machine was set up anew; its clock need not go as the old one's did.
    await presence.hello(hello(5, instance="one"))
    presence.ready("a", 5)
    presence.gone("a", 5)
    await presence.hello(hello(boot, instance="two"))
    presence.ready("a", boot)

    assert "agent_cloned" not in await kinds(store)
    assert presence.agent("a").boot_epoch == boot


# --- verdicts ---------------------------------------------------------------------------------------------------------


async def test_what_a_sidecar_lists_is_kept_if_it_counts_stopped_if_not_and_unknown_if_there_is_no_such_task(
    presence: Presence, fleet: Fleet, store: SqliteStore
) -> None:
    rows = Rows(store)
    await rows.add(*(new_task(number) for number in (1, 2, 3)))
    await rows.completed(2)
    await rows.claim(1)
    fleet.agent("a").boot = 1
    fleet.take(Held(task_id(1), 1, "a", 1, 0.0, is_committed=True))
    listed = [(1, 1), (1, 0), (2, 1), (3, 1), (4, 1)]
    inventory = tuple(
        HeldAttempt(attempt=AttemptId("a", 1, task_id(number), epoch), state=AttemptState.RUNNING)
        for number, epoch in listed
    )
    verdicts, again = await presence.hello(hello(1, inventory=inventory))

    assert [verdict.verdict for verdict in verdicts] == ["keep", "stop", "stop", "stop", "unknown"]
    assert again == []


async def test_an_attempt_of_another_start_is_not_kept(presence: Presence, fleet: Fleet) -> None:
    fleet.agent("a").boot = 2
    fleet.take(Held(task_id(1), 1, "a", 2, 0.0, is_committed=True))
    forged = HeldAttempt(attempt=AttemptId("a", 1, task_id(1), 1), state=AttemptState.RUNNING)
    verdicts, _ = await presence.hello(hello(2, inventory=(forged,)))

    assert [verdict.verdict for verdict in verdicts] == ["stop"]


# --- leaving ----------------------------------------------------------------------------------------------------------


async def test_an_agent_that_leaves_is_refused_by_the_claim_itself(presence: Presence, store: SqliteStore) -> None:
    rows = Rows(store)
    await rows.add(new_task(1))
    await presence.hello(hello(1))
    presence.ready("a", 1)
    presence.heartbeat("a", Heartbeat(sidecar="a", boot=1, draining=True))
    assert isinstance(await rows.claim(1), Unwilling)

    presence.heartbeat("a", Heartbeat(sidecar="a", boot=1, draining=False))
    assert (await rows.claim(1)).epoch == 1
    assert [k for k in await kinds(store) if k.startswith("agent_")] == [
        "agent_joined",
        "agent_leaving",
        "agent_resumed",
    ]


# --- suspicion --------------------------------------------------------------------------------------------------------


async def suspects(store: SqliteStore, number: int) -> list[bool]:
    return [attempt.suspect for attempt in await store.attempts(task_id(number))]


@pytest.mark.parametrize(
    "boot, state, is_suspect",
    [
        (2, AttemptState.RUNNING, True),  # it died while it ran the task
        (2, AttemptState.ASSIGNED, False),  # it never began: an attempt is written down before it starts
        (1, AttemptState.RUNNING, False),  # the same start is alive, and has only lost it
    ],
)
async def test_a_sidecar_that_comes_back_without_an_attempt_tells_whether_it_was_its_end(
    presence: Presence, fleet: Fleet, store: SqliteStore, boot: int, state: AttemptState, is_suspect: bool
) -> None:
    rows = Rows(store)
    await rows.add(new_task(1))
    await rows.claim(1)
    if state is AttemptState.RUNNING:
        await rows.accept(1, 1)
    fleet.agent("a").boot = 1
    fleet.take(Held(task_id(1), 1, "a", 1, 0.0, state=state, is_committed=True))
    await presence.hello(hello(boot))
    if state is AttemptState.ASSIGNED and boot == 1:
        return
    await rows.store.commit(Promote(at_ms=rows.tick()))

    assert await suspects(store, 1) == [is_suspect]
    assert await rows.state(1) is TaskState.QUEUED


async def test_a_sidecar_that_still_has_what_was_given_up_is_no_ones_victim(
    presence: Presence, store: SqliteStore
) -> None:
    # The line was cut for longer than the lease: the task is queued again, and here is the sidecar, alive.
    rows = Rows(store)
    await rows.add(new_task(1))
    await rows.claim(1)
    await rows.finish(1, 1, TaskState.QUEUED, attempt=AttemptState.LOST, orderly=False, result=None)
    assert await suspects(store, 1) == [True]
    running = HeldAttempt(attempt=AttemptId("a", 1, task_id(1), 1), state=AttemptState.RUNNING)
    verdicts, _ = await presence.hello(hello(1, inventory=(running,)))
    await rows.store.commit(Promote(at_ms=rows.tick()))

    assert [verdict.verdict for verdict in verdicts] == ["stop"]
    assert await suspects(store, 1) == [False]


async def test_an_agent_on_a_narrow_line_gets_no_more_and_keeps_what_is_on_its_way(
    presence: Presence, fleet: Fleet
) -> None:
    await presence.hello(hello(1))
    presence.ready("a", 1)
    agent = fleet.agents["a"]
    assert agent.free_slots == 1
    presence.behind("a", 1, is_behind=True)
    assert agent.free_slots == 0
    on_its_way = Held("t", 1, "a", 1, lease_until=0.0, is_committed=True)
    fleet.take(on_its_way)
    presence.heartbeat("a", Heartbeat(sidecar="a", boot=1))
    assert on_its_way.lease_until > 0.0
    fleet.release("t", 1)
    presence.behind("a", 2, is_behind=False)  # of another start
    assert agent.free_slots == 0
    presence.behind("a", 1, is_behind=False)

    assert agent.free_slots == 1


async def test_more_names_than_a_hub_remembers_are_turned_away_and_known_ones_are_not(
    presence: Presence, fleet: Fleet
) -> None:
    await presence.hello(hello(1))
    for number in range(MAX_AGENTS - 1):
        fleet.agent(f"n{number}")

    with pytest.raises(Overloaded, match="20000 agents are known"):
        await presence.hello(hello(1, sidecar="one more"))
    await presence.hello(hello(2))


# --- what an earlier hub gave away ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seen, server",
    [
        ((("h", "box"),), ("h", "box")),
        ((("h", "box"), ("h", "box@a")), ("h", "box@a")),
        ((("", "box"), ("other", "box")), ("", "box")),
        ((), ("h", "box")),
    ],
    ids=["its own", "a second one of the name", "added by people", "never seen"],
)
async def test_an_attempt_of_an_earlier_hub_takes_its_turn_on_its_server(
    presence: Presence, fleet: Fleet, store: SqliteStore, seen: tuple[ServerKey, ...], server: ServerKey
) -> None:
    rows = Rows(store)
    asked = Requirements(executor="chat", strategies=(Strategy.LOCAL_LLM,), model="m", repo="r").text
    await rows.add(new_task(1, class_text=asked))
    placed = Placement(
        strategy=Strategy.LOCAL_LLM, executor="chat", agent="a", reason="", at_ms=1, endpoint="box", model="m"
    )
    await store.commit(replace(rows.claim_change(1), placement=encode_placement(placed)))
    fleet.agent("a").host = "h"
    for key in seen:
        fleet.seen[key] = EndpointReport(id=key[1], kind=EndpointKind.OLLAMA, url="u", local=True)
    presence.take((await store.start()).standing.held)

    held = fleet.held[task_id(1)]
    assert (held.server, held.model, held.crowd, held.repo) == (server, "m", 1, "r")

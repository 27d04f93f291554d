"""The promises about LLM endpoints, kept by every store."""

import pytest

from hub.core.health import Health
from hub.store.endpoint_changes import EndpointRow, ForgetHealth, HealthRow, PutEndpoint, PutHealth, RemoveEndpoint
from protocol.endpoints import EndpointKind, EndpointReport, EndpointState, ModelReport
from protocol.errors import NotFound
from protocol.events import Event, EventKind
from tests.support.stores import Rows


def fact(kind: EventKind) -> Event:
    return Event(kind=kind, at_ms=1, facts={"endpoint": "big"})


def row(host: str, name: str, state: EndpointState = EndpointState.ONLINE) -> HealthRow:
    seen = EndpointReport(
        id=name, kind=EndpointKind.OPENAI, url="http://x/v1", local=False, models=(ModelReport(name="caf\u00e9"),)
    )
    return HealthRow(host=host, seen=seen, health=Health(state=state, since_ms=5, until_ms=9, problem="x"))


async def test_what_is_known_of_endpoints_is_kept_by_machine_and_name(rows: Rows) -> None:
    for each in (row("b", "x"), row("", "x"), row("b", "a"), row("b", "x", EndpointState.COOLDOWN)):
        await rows.store.commit(PutHealth(each))
    kept = await rows.store.healths()
    await rows.store.commit(ForgetHealth("b", "x"))
    await rows.store.commit(ForgetHealth("b", "never"))

    assert kept == (row("", "x"), row("b", "a"), row("b", "x", EndpointState.COOLDOWN))
    assert await rows.store.healths() == (row("", "x"), row("b", "a"))


async def test_a_change_of_health_and_its_fact_are_one(rows: Rows) -> None:
    await rows.store.commit(PutHealth(row("b", "x"), fact(EventKind.ENDPOINT_DOWN)))

    assert [event.kind for event in await rows.store.events(0, 10)] == [EventKind.ENDPOINT_DOWN]


async def test_an_endpoint_that_is_removed_takes_its_health_along(rows: Rows) -> None:
    added = EndpointRow(id="x", kind="openai", url="http://x/v1", local=False, default_model="m")
    await rows.store.commit(PutEndpoint(added, fact(EventKind.ENDPOINT_ADDED)))
    await rows.store.commit(PutHealth(row("", "x")))
    await rows.store.commit(PutHealth(row("b", "x")))
    kept = await rows.store.endpoints()
    await rows.store.commit(RemoveEndpoint("x", fact(EventKind.ENDPOINT_REMOVED)))

    assert kept == (added,)
    assert await rows.store.endpoints() == ()
    assert await rows.store.healths() == (row("b", "x"),)
    with pytest.raises(NotFound):
        await rows.store.commit(RemoveEndpoint("x", fact(EventKind.ENDPOINT_REMOVED)))

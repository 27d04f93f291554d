"""The promises about machines that join, kept by every store."""

import asyncio
import hashlib

import pytest
from msgspec.structs import replace

from hub.store import join_changes as c
from hub.store.token_changes import RevokeToken, TokenRow
from protocol.errors import Conflict, NotFound, Overloaded
from protocol.events import Event, EventKind
from protocol.joining import JoinRefused, MachineFacts
from tests.support.stores import Rows

EVENT = Event(kind=EventKind.MACHINE_JOINED, at_ms=1, facts={"by": "x"})
SECRET = hashlib.sha256(b"secret").digest()
FACTS = MachineFacts(host="box", cores=8)


def asks(key: str, attempt: int = 1, name: str = "", at_ms: int = 100) -> c.MachineRow:
    return c.MachineRow(
        key=key,
        code=f"code-{key}",
        state=c.JOINED,
        name=name or f"name-{key}",
        address="10.0.0.2",
        facts=FACTS,
        attempt=attempt,
        asked_ms=at_ms,
    )


async def add(rows: Rows, by: str = "t1", uses: int = 1, expires_ms: int = 1_000) -> None:
    row = c.JoinTokenRow(
        id=by, label="l", digest=SECRET, uses=uses, created_ms=5, expires_ms=expires_ms, created_by="admin"
    )
    await rows.store.commit(c.AddJoinToken(row, EVENT))


async def let_in(
    rows: Rows,
    machine: c.MachineRow,
    by: str = "t1",
    *,
    at_ms: int = 100,
    digest: bytes = SECRET,
    names: bool = True,
    binds: bool = False,
) -> c.MachineRow:
    made = TokenRow(id=f"{machine.key}-{machine.attempt}", role="agent", label="m", digest=b"d" * 32, created_ms=at_ms)
    kept: c.MachineRow = await rows.store.commit(
        c.LetIn(machine, by, digest if by else b"", names, made, (EVENT,), at_ms, binds)
    )
    return kept


async def good_tokens(rows: Rows) -> set[str]:
    return {token.id for token in await rows.store.tokens() if token.revoked_ms is None}


async def test_a_join_token_lets_in_as_many_machines_as_it_says(rows: Rows) -> None:
    await add(rows, uses=2)
    assert (await let_in(rows, asks("a"))).name == "name-a"
    await let_in(rows, asks("b"))
    with pytest.raises(JoinRefused, match="used 2 times"):
        await let_in(rows, asks("c"))

    (token,) = await rows.store.join_tokens()
    assert (token.used, token.uses, token.label, token.created_by) == (2, 2, "l", "admin")
    assert await good_tokens(rows) == {"a-1", "b-1"}
    assert await rows.store.machine_of_token("c-1") is None
    assert await rows.store.machine_of_token("a-1") == replace(asks("a"), token="a-1", let_in="t1", joined_ms=100)


async def test_of_many_machines_at_once_one_gets_the_only_use(rows: Rows) -> None:
    await add(rows)
    done = await asyncio.gather(*(let_in(rows, asks(f"k{n}")) for n in range(20)), return_exceptions=True)

    assert sum(isinstance(one, c.MachineRow) for one in done) == 1
    assert sum(isinstance(one, JoinRefused) for one in done) == 19
    assert len(await good_tokens(rows)) == 1


async def test_a_machine_whose_answer_was_lost_gets_a_new_one_and_burns_nothing(rows: Rows) -> None:
    await add(rows)
    await let_in(rows, asks("a"))
    kept = await let_in(rows, asks("a", 2, "other"), names=False)

    assert (kept.name, kept.token) == ("name-a", "a-2")
    assert await good_tokens(rows) == {"a-2"}
    assert (await rows.store.join_tokens())[0].used == 1


async def test_a_request_that_was_heard_before_is_refused(rows: Rows) -> None:
    await add(rows, uses=9)
    await let_in(rows, asks("a", 3))
    for attempt in (3, 2, 1):
        with pytest.raises(JoinRefused, match="heard before"):
            await let_in(rows, asks("a", attempt))
        with pytest.raises(JoinRefused, match="heard before"):
            await rows.store.commit(c.AskToJoin(replace(asks("a", attempt), state=c.WAITING, expires_ms=999), 9, EVENT))

    assert await good_tokens(rows) == {"a-3"}


async def test_a_machine_that_was_thrown_out_does_not_come_back_by_the_same_use(rows: Rows) -> None:
    await add(rows)
    await let_in(rows, asks("a"))
    await rows.store.commit(RevokeToken("a-1", 150, EVENT))

    with pytest.raises(JoinRefused, match="used once"):
        await let_in(rows, asks("a", 2))


@pytest.mark.parametrize("how", ["wrong", "unknown", "expired", "revoked"])
async def test_a_join_token_that_does_not_count_lets_nobody_in(rows: Rows, how: str) -> None:
    await add(rows)
    if how == "revoked":
        await rows.store.commit(c.RevokeJoinToken("t1", 50, EVENT))
        await rows.store.commit(c.RevokeJoinToken("t1", 60, EVENT))
    says = {"wrong": "does not know", "unknown": "does not know", "expired": "has expired", "revoked": "was revoked"}
    with pytest.raises(JoinRefused, match=says[how]):
        await let_in(
            rows,
            asks("a"),
            "t2" if how == "unknown" else "t1",
            at_ms=1_000 if how == "expired" else 100,
            digest=bytes(32) if how in {"wrong", "unknown"} else SECRET,
        )
    with pytest.raises(NotFound):
        await rows.store.commit(c.RevokeJoinToken("nobody", 1, EVENT))

    assert await good_tokens(rows) == set()
    assert (await rows.store.join_tokens())[0].used == 0


async def test_two_machines_never_have_one_name(rows: Rows) -> None:
    await add(rows, uses=5)
    await let_in(rows, asks("a", name="Grey-Area"))
    with pytest.raises(c.MachineNameTaken, match="Grey-Area"):
        await let_in(rows, asks("b", name="Grey-Area"))
    assert (await rows.store.join_tokens())[0].used == 1

    assert await good_tokens(rows) == {"a-1"}

    await rows.store.commit(c.LetGo("a-1", 200, EVENT))
    assert (await let_in(rows, asks("b", 2, name="Grey-Area"))).name == "Grey-Area"


async def test_a_machine_that_leaves_has_no_token_any_more(rows: Rows) -> None:
    await add(rows)
    await let_in(rows, asks("a"))
    await rows.store.commit(c.LetGo("a-1", 200, EVENT))
    await rows.store.commit(c.LetGo("nobody's", 200, EVENT))

    assert await good_tokens(rows) == set()
    gone = await rows.store.machine_of_token("a-1")
    assert gone is not None
    assert gone.state == c.LEFT
    with pytest.raises(JoinRefused):
        await let_in(rows, asks("a", 2))


async def ask(rows: Rows, key: str, attempt: int = 1, at_ms: int = 100, most: int = 3) -> c.MachineRow:
    machine = replace(asks(key, attempt, at_ms=at_ms), state=c.WAITING, expires_ms=at_ms + 900)
    kept: c.MachineRow = await rows.store.commit(c.AskToJoin(machine, most, EVENT))
    return kept


async def decide(rows: Rows, key: str, at_ms: int = 200, *, yes: bool) -> None:
    await rows.store.commit(c.DecideJoin(f"code-{key}", yes, "admin", at_ms, EVENT))


async def test_a_person_lets_a_machine_in_or_not(rows: Rows) -> None:
    for key in ("a", "b", "c"):
        await ask(rows, key)
    assert [row.key for row in await rows.store.machines_waiting()] == ["a", "b", "c"]
    await decide(rows, "a", yes=True)
    await decide(rows, "a", yes=True)
    await decide(rows, "b", yes=False)
    with pytest.raises(Conflict, match="denied"):
        await decide(rows, "b", yes=True)

    assert (await let_in(rows, asks("a", 2), "")).state == c.JOINED
    with pytest.raises(JoinRefused, match="denied"):
        await let_in(rows, asks("b", 2), "")
    assert (await let_in(rows, asks("c", 2), "")).state == c.WAITING
    with pytest.raises(JoinRefused, match="heard before"):
        await let_in(rows, asks("c", 2), "")
    with pytest.raises(JoinRefused, match="nobody has approved"):
        await let_in(rows, asks("d"), "")
    assert await good_tokens(rows) == {"a-2"}
    assert [row.key for row in await rows.store.machines_waiting()] == ["c"]


async def test_an_approval_counts_once(rows: Rows) -> None:
    await ask(rows, "a")
    await decide(rows, "a", yes=True)
    await let_in(rows, asks("a", 2), "")

    with pytest.raises(JoinRefused, match="not waiting"):
        await let_in(rows, asks("a", 3), "")


async def test_requests_end_with_their_time_and_there_are_never_too_many(rows: Rows) -> None:
    for key in ("a", "b", "c"):
        await ask(rows, key)
    with pytest.raises(Overloaded, match="3 machines"):
        await ask(rows, "d")
    assert (await ask(rows, "a", 2)).attempt == 2
    with pytest.raises(NotFound):
        await decide(rows, "a", at_ms=1_000, yes=True)

    await ask(rows, "d", at_ms=1_000)
    assert [row.key for row in await rows.store.machines_waiting()] == ["d"]


# --- keys that sign ---------------------------------------------------------------------------------------------------


async def test_a_machine_is_bound_once_and_stays_it(rows: Rows) -> None:
    await add(rows, uses=3)
    assert (await let_in(rows, asks("a"))).bound_ms is None
    for at_ms in (200, 300):
        await rows.store.commit(c.BindMachine("a", at_ms))

    (found,) = await rows.store.machines_at_door("a-1", "somebody")
    assert (found.key, found.bound_ms) == ("a", 200)
    with pytest.raises(JoinRefused, match="this release of AgentCom cannot"):
        await let_in(rows, asks("a", 2))
    assert (await let_in(rows, asks("a", 3), binds=True)).bound_ms == 200
    assert (await let_in(rows, asks("b"), binds=True, at_ms=150)).bound_ms == 150


async def test_who_stands_at_the_door_is_known_by_token_and_by_name(rows: Rows) -> None:
    await add(rows, uses=2)
    await let_in(rows, asks("a", name="one"))
    await let_in(rows, asks("b", name="two"))

    async def known(token: str, name: str) -> list[str]:
        return sorted(row.key for row in await rows.store.machines_at_door(token, name))

    assert await known("a-1", "one") == ["a"]
    assert await known("plain", "two") == ["b"]
    assert await known("a-1", "two") == ["a", "b"]
    assert await known("", "three") == await known("plain", "three") == []
    await rows.store.commit(c.LetGo("a-1", 200, EVENT))
    assert await known("plain", "one") == []


async def test_who_asks_to_join_again_keeps_its_name_while_its_token_counts(rows: Rows) -> None:
    await add(rows, uses=3)
    await let_in(rows, asks("a", name="one"), binds=True)
    await let_in(rows, asks("b", name="two"))

    async def known(token: str, name: str) -> list[str]:
        return sorted(row.key for row in await rows.store.machines_at_door(token, name))

    assert (await ask(rows, "a", 2)).name == "one"
    assert (await known("plain", "one"), await known("plain", "name-a")) == (["a"], [])
    with pytest.raises(c.MachineNameTaken):
        await let_in(rows, asks("c", name="one"))
    await rows.store.commit(c.LetGo("a-1", 200, EVENT))
    assert await known("plain", "one") == []
    assert (await ask(rows, "a", 3)).name == "name-a"
    assert (await let_in(rows, asks("c", 2, name="one"))).name == "one"

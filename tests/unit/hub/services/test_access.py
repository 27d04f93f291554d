import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.core.access import Principal
from hub.services.access import Access
from hub.store.sqlite import SqliteStore
from hub.store.token_changes import TouchTokens
from protocol.api import TokenBody
from protocol.errors import BadInput, Conflict, Forbidden, NotFound, Unauthenticated
from protocol.events import EventKind
from protocol.model import Role


class HandClock:
    def __init__(self) -> None:
        self.at_ms = 1_000_000

    def now_ms(self) -> int:
        return self.at_ms

    def monotonic(self) -> float:
        return self.at_ms / 1000


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def store(tmp_path: Path, clock: HandClock) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "hub.sqlite")
    await store.open()
    await store.start(clock.now_ms())
    yield store
    await store.close()


@pytest.fixture
async def access(store: SqliteStore, clock: HandClock) -> Access:
    return await Access.load(store, clock)


async def test_a_token_opens_what_its_role_may_and_nothing_else(access: Access) -> None:
    made = await access.create(TokenBody(role=Role.SUBMITTER, label="ci"), by="x")
    who = access.authenticate(made.token)

    access.require(who, "tasks:submit")
    assert (who.token, who.role, who.label) == (made.id, Role.SUBMITTER, "ci")
    with pytest.raises(Forbidden) as caught:
        access.require(who, "tokens:manage")
    assert caught.value.allowed == ("admin",)


@pytest.mark.parametrize("token", [None, "", "x", "acm_x"])
async def test_no_token_and_no_real_one_are_nobody(access: Access, token: str | None) -> None:
    with pytest.raises(Unauthenticated):
        access.authenticate(token)


async def test_a_token_of_another_hub_is_unknown(access: Access, tmp_path: Path, clock: HandClock) -> None:
    other = SqliteStore(tmp_path / "other.sqlite")
    await other.open()
    foreign = await (await Access.load(other, clock)).create(TokenBody(role=Role.ADMIN), by="x")
    await other.close()

    with pytest.raises(Unauthenticated, match="does not know the token"):
        access.authenticate(foreign.token)


async def test_a_right_id_with_another_secret_is_unknown(access: Access) -> None:
    first = await access.create(TokenBody(role=Role.ADMIN), by="x")
    row = access._rows[first.id]
    second = await access.create(TokenBody(role=Role.ADMIN), by="x")
    access._rows[second.id] = row

    with pytest.raises(Unauthenticated, match="does not know the token"):
        access.authenticate(second.token)


async def test_a_token_ends_at_its_time(access: Access, clock: HandClock) -> None:
    made = await access.create(TokenBody(role=Role.VIEWER, ttl_s=10), by="x")
    clock.at_ms += 9_999
    access.authenticate(made.token)
    clock.at_ms += 1

    with pytest.raises(Unauthenticated, match=r"expired at 1970-01-01T00:16:50Z"):
        access.authenticate(made.token)


async def test_a_revoked_token_is_nobody_at_once_and_after_a_restart(
    access: Access, store: SqliteStore, clock: HandClock
) -> None:
    made = await access.create(TokenBody(role=Role.VIEWER), by="x")
    await access.revoke(made.id, by="x")
    await access.revoke(made.id, by="x")

    for hub in (access, await Access.load(store, clock)):
        with pytest.raises(Unauthenticated, match="was revoked"):
            hub.authenticate(made.token)
        with pytest.raises(Unauthenticated, match="was revoked"):
            hub.principal(made.id)
    kinds = [event.kind for event in await store.events(0, 10)]
    assert kinds == [EventKind.TOKEN_CREATED, EventKind.TOKEN_REVOKED]


async def test_who_was_told_of_counts_until_its_token_ends(access: Access, clock: HandClock) -> None:
    short = await access.create(TokenBody(role=Role.AGENT, ttl_s=10), by="x")
    long = await access.create(TokenBody(role=Role.AGENT), by="x")
    first, second = access.principal(short.id), access.principal(long.id)
    assert (access.counts(first), access.counts(second)) == (True, True)

    clock.at_ms += 10_000
    assert (access.counts(first), access.counts(second)) == (False, True)

    await access.revoke(long.id, by="x")
    assert not access.counts(second)
    assert not access.counts(Principal("unknown", Role.AGENT))


async def test_who_was_told_of_counts_on_after_it_was_stored_when_tokens_were_last_used(access: Access) -> None:
    made = await access.create(TokenBody(role=Role.AGENT), by="x")
    who = access.principal(made.id)
    await access.flush()

    assert access.counts(who)
    assert access.principal(made.id) is who
    await access.revoke(made.id, by="x")
    assert not access.counts(who)


async def test_who_was_told_of_before_the_tokens_were_read_again_has_to_be_looked_up(access: Access) -> None:
    made = await access.create(TokenBody(role=Role.AGENT), by="x")
    who = access.principal(made.id)
    await access.reload()

    assert not access.counts(who)
    assert access.principal(made.id) == who
    assert not access.counts(who)


async def test_the_last_valid_admin_token_stays(access: Access, clock: HandClock) -> None:
    first = await access.create(TokenBody(role=Role.ADMIN), by="x")
    await access.create(TokenBody(role=Role.ADMIN, ttl_s=10), by="x")
    clock.at_ms += 10_000

    with pytest.raises(Conflict, match="last valid one of role 'admin'"):
        await access.revoke(first.id, by="x")


async def test_what_a_token_has_opened_is_told_to_end_with_the_commit_that_revokes_it(
    access: Access, store: SqliteStore, clock: HandClock
) -> None:
    made = await access.create(TokenBody(role=Role.VIEWER), by="x")
    other = await Access.load(store, clock)  # of another hub
    told: list[str] = []

    def ends(token: str) -> None:
        with pytest.raises(Unauthenticated, match="was revoked"):
            access.principal(token)
        told.append(token)

    access.on_revoked, other.on_revoked = ends, told.append
    await access.revoke(made.id, by="x")
    assert told == [made.id], "before who revokes it has an answer"

    await other.reload()
    await other.reload()
    assert told == [made.id, made.id], "once, as soon as the other hub reads it"


async def test_an_unknown_token_cannot_be_revoked(access: Access) -> None:
    with pytest.raises(NotFound):
        await access.revoke("nope", by="x")


async def test_all_that_is_wrong_with_a_wish_is_said_and_nothing_is_made(access: Access) -> None:
    with pytest.raises(BadInput) as caught:
        await access.create(TokenBody(role=Role.ADMIN, label="a\nb", ttl_s=0), by="x")

    assert [problem.path for problem in caught.value.problems] == ["label", "ttl_s"]
    assert access.tokens().tokens == ()


async def test_the_store_holds_no_secret(access: Access, store: SqliteStore) -> None:
    made = await access.create(TokenBody(role=Role.ADMIN, label="x"), by="x")
    secret = made.token.split("_")[2]

    assert secret not in repr(await store.tokens())
    assert secret not in repr(await store.events(0, 10))
    assert secret not in repr(access.tokens())


async def test_last_use_is_shown_at_once_and_stored_in_batches(
    access: Access, store: SqliteStore, clock: HandClock
) -> None:
    made = await access.create(TokenBody(role=Role.VIEWER), by="x")
    clock.at_ms += 5_000
    access.authenticate(made.token)

    assert access.tokens().tokens[0].last_used_at is not None
    assert (await store.tokens())[0].last_used_ms is None
    await access.flush()
    assert (await store.tokens())[0].last_used_ms == 1_005_000


async def test_last_use_waits_while_the_disk_is_crowded(access: Access, store: SqliteStore, clock: HandClock) -> None:
    made = await access.create(TokenBody(role=Role.VIEWER), by="x")
    access.authenticate(made.token)
    all_written = asyncio.get_running_loop().create_future()
    store.waiting.most = 100
    for _ in range(99):
        store.post(TouchTokens({}))
    store.post(TouchTokens({}), all_written.set_result)
    await access.flush()
    await all_written
    assert (await store.tokens())[0].last_used_ms is None

    await access.flush()
    assert (await store.tokens())[0].last_used_ms == clock.at_ms


async def test_the_first_tokens_are_private_files_that_work(access: Access, tmp_path: Path) -> None:
    written = await access.ensure_first_tokens(tmp_path)

    assert [path.name for path in written] == ["admin.token", "agent.token"]
    assert [access.authenticate(path.read_text().strip()).role for path in written] == [Role.ADMIN, Role.AGENT]
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
    assert {path.suffix for path in written} == {".token"}


async def test_a_file_that_is_there_is_never_overwritten(access: Access, tmp_path: Path) -> None:
    await access.ensure_first_tokens(tmp_path)
    (tmp_path / "agent.token").write_text("mine\n")
    before = (tmp_path / "admin.token").read_text()

    assert await access.ensure_first_tokens(tmp_path) == ()
    assert (tmp_path / "admin.token").read_text() == before
    assert (tmp_path / "agent.token").read_text() == "mine\n"


async def test_a_removed_file_comes_back_with_a_new_token(access: Access, tmp_path: Path) -> None:
    await access.ensure_first_tokens(tmp_path)
    before = (tmp_path / "agent.token").read_text()
    (tmp_path / "agent.token").unlink()

    assert [path.name for path in await access.ensure_first_tokens(tmp_path)] == ["agent.token"]
    assert (tmp_path / "agent.token").read_text() != before


async def test_what_a_token_is_bound_to_comes_from_the_store(
    access: Access, store: SqliteStore, clock: HandClock
) -> None:
    projects = await access.create(TokenBody(role=Role.VIEWER, projects=("web", "api", "web")), by="x")
    agents = await access.create(TokenBody(role=Role.AGENT, agents=("Just Testing",)), by="x")
    free = await access.create(TokenBody(role=Role.AGENT), by="x")

    again = await Access.load(store, clock)

    assert again.authenticate(projects.token).scope.projects == ("api", "web") == projects.projects
    assert again.authenticate(agents.token).is_for("Just Testing")
    assert not again.authenticate(agents.token).is_for("Somebody Else")
    assert again.authenticate(free.token).is_for("Somebody Else")
    assert [view.agents for view in again.tokens().tokens if view.agents] == [("Just Testing",)]

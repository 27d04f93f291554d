"""The promises of :mod:`hub.services.audit`: what was written is found, whoever has been at the store."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from hub.core.access import Principal
from hub.core.audit import Head
from hub.services.audit import ANCHOR_FILE, Audit
from hub.store.audit_changes import AuditQuery
from hub.store.keeping_changes import ForgetEvents
from hub.store.sqlite import SqliteStore
from protocol.errors import BadInput
from protocol.model import Role
from tests.support.stores import Rows, new_task

ME = Principal(token="tok", role=Role.OPERATOR)


class Hand:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1000


@pytest.fixture
async def rows(tmp_path: Path) -> AsyncIterator[Rows]:
    store = SqliteStore(tmp_path / "hub.sqlite")
    await store.open()
    made = Rows(store)
    for number in range(1, 6):
        await made.add(new_task(number))
    yield made
    await store.close()


@pytest.fixture
def audit(rows: Rows, tmp_path: Path) -> Audit:
    return Audit(rows.store, Hand(), tmp_path, lambda token: f"label of {token}" if token else "")


def tampered(folder: Path, sql: str) -> None:
    """What somebody else does to the file."""
    connection = apsw.Connection(str(folder / "hub.sqlite"))
    connection.execute(sql)
    connection.close()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit SET actor = 'somebody' WHERE seq = 4",
        "UPDATE audit SET hash = zeroblob(32) WHERE seq = 5",
        "DELETE FROM audit WHERE seq = 3",
        "DELETE FROM audit WHERE seq > 7",
        "DELETE FROM audit",
        (
            "UPDATE audit SET seq = 100 WHERE seq = 3; UPDATE audit SET seq = 3 WHERE seq = 4; "
            "UPDATE audit SET seq = 4 WHERE seq = 100"
        ),
        "UPDATE audit_base SET seq = 2; DELETE FROM audit WHERE seq <= 2",
        "UPDATE events SET facts = '{}' WHERE seq = 2",
        "DELETE FROM events WHERE seq = 5",
        (
            "INSERT INTO events SELECT 6, at_ms, kind, task, agent, epoch, facts FROM events WHERE seq = 5; "
            "UPDATE facts SET value = 6 WHERE name = 'event_seq'"
        ),
    ],
)
async def test_what_somebody_does_to_the_rows_is_found(audit: Audit, tmp_path: Path, sql: str) -> None:
    found = await audit.verify()
    assert (found.ok, found.entries, found.events) == (True, 11, 5)

    tampered(tmp_path, sql)

    assert (await audit.verify()).problems


async def test_an_end_that_was_cut_off_with_its_events_is_found_by_the_anchor(
    rows: Rows, audit: Audit, tmp_path: Path
) -> None:
    await audit.anchor()
    kept = await audit.verify()
    assert kept.anchored == kept.head == 11
    cut = "DELETE FROM audit WHERE seq > 9; DELETE FROM events WHERE seq > 4; UPDATE facts SET value = 4 WHERE name = "
    tampered(tmp_path, cut + "'event_seq'")

    assert (await audit.verify()).problems == ("the log ends at entry 9, and an anchor tells of entry 11",)
    assert (await Audit(rows.store, Hand()).verify()).ok, "who has kept nothing cannot know"
    theirs = await Audit(rows.store, Hand()).verify(Head(kept.head, bytes.fromhex(kept.hash)))
    assert not theirs.ok
    assert audit.health().state == "ok"
    await audit.anchor()
    assert audit.health().state == "degraded"
    assert (tmp_path / ANCHOR_FILE).read_text().startswith("11 "), "what shows it is kept"


async def test_the_anchor_follows_the_log(rows: Rows, audit: Audit, tmp_path: Path) -> None:
    await audit.anchor()
    first = (tmp_path / ANCHOR_FILE).read_text()
    await rows.add(new_task(6))
    await audit.anchor()

    assert (first.split()[0], (tmp_path / ANCHOR_FILE).read_text().split()[0]) == ("11", "13")
    (tmp_path / ANCHOR_FILE).write_text("half of")
    await audit.anchor()
    assert audit.health().state == "ok"


async def test_forgotten_events_and_entries_are_no_fault(rows: Rows, audit: Audit) -> None:
    await audit.anchor()
    await rows.store.commit(ForgetEvents(at_ms=1, through=3))
    found = await audit.verify()
    assert (found.problems, found.events, found.forgotten_events) == ((), 2, 3)

    assert await audit.forget(before_ms=1_003) == 5
    assert await audit.forget(before_ms=0) == 0
    found = await audit.verify()
    assert (found.problems, found.forgotten) == ((), 5)
    assert await audit.forget(before_ms=2**60) > 0
    assert (await audit.verify()).ok


async def test_a_refusal_is_written_once_a_minute_for_each_caller_and_subject(rows: Rows, audit: Audit) -> None:
    clock = audit._clock
    assert isinstance(clock, Hand)
    for subject in ("a", "a", "b", "a"):
        audit.refuse("tokens:manage", ME, subject=subject)
    clock.now += 60_000
    audit.refuse("tokens:manage", ME, subject="a")
    for number in range(2_000):
        audit.refuse("session.open", subject=str(number))
    await rows.add(new_task(7))

    page = await audit.list(AuditQuery(limit=5_000))
    known = [entry.subject for entry in page.entries if entry.actor == "tok"]
    assert sorted(known) == ["a", "a", "b"]
    assert sum(entry.action == "session.open" for entry in page.entries) < 1_000
    assert {entry.role for entry in page.entries if entry.actor == "tok"} == {"operator"}


async def test_pages_lead_through_the_whole_log_both_ways(audit: Audit) -> None:
    lines, cursor = [], 0
    while True:
        page = await audit.lines(cursor, 4)
        before = lines[-1].hash if lines else bytes(32).hex()
        assert page.before == before
        lines += page.entries
        if page.next_cursor is None:
            break
        cursor = int(page.next_cursor)
    assert [line.seq for line in lines] == list(range(1, 12))
    for before, line in itertools.pairwise(lines):
        assert line.hash_after(before.hash) == line.hash
    with pytest.raises(BadInput):
        await audit.lines(99, 4)

    first = await audit.list(AuditQuery(limit=4))
    assert first.next_cursor is not None
    rest = await audit.list(AuditQuery(limit=4, before=int(first.next_cursor)))
    assert [entry.seq for entry in (*first.entries, *rest.entries)] == [10, 8, 6, 4, 2, 1]
    assert rest.next_cursor is None
    assert first.entries[0].actor_label == "label of me"

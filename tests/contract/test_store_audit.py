"""The promises of the audit log, kept by every store: its entries share the commit of what they tell of."""

import pytest
from msgspec.structs import replace

from hub.clock import SystemClock
from hub.core.audit import note
from hub.services.audit import Audit
from hub.store.audit_changes import Attest, AuditQuery, ForgetAudit
from hub.store.changes import Cancel, Record
from hub.store.token_changes import AddToken, TokenRow
from protocol.audit import AuditVerdict
from protocol.errors import IllegalTransition
from protocol.events import Event, EventKind
from protocol.model import TaskState
from tests.support.stores import Rows, new_task, task_id


async def looked(rows: Rows) -> AuditVerdict:
    return await Audit(rows.store, SystemClock()).verify()


async def said(rows: Rows, **asked: object) -> list[tuple[str, str, str, str]]:
    found = await rows.store.audit(replace(AuditQuery(), **asked))
    return [(e.action, e.actor, e.subject, e.verdict) for e in found]


async def test_every_commit_ends_with_an_entry_and_decisions_have_one_of_their_own(rows: Rows) -> None:
    await rows.add(new_task(1), new_task(2))
    await rows.claim(1)
    await rows.store.commit(Cancel(at_ms=rows.tick(), task=task_id(1), reason="no", by="me"))

    actions = [entry.action for entry in await rows.store.audit_entries(0, 100)]
    assert actions == ["audit.begin", "task.submit", "commit", "commit", "task.cancel", "commit"]
    assert await said(rows) == [
        ("task.cancel", "me", task_id(1), "done"),
        ("task.submit", "me", task_id(1), "done"),
        ("audit.begin", "hub", "", "done"),
    ]


async def test_what_was_refused_leaves_no_entry(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.store.commit(Cancel(at_ms=rows.tick(), task=task_id(1), reason="", by="me"))
    before = await rows.store.audit_ends()

    with pytest.raises(IllegalTransition):
        await rows.store.commit(Cancel(at_ms=rows.tick(), task=task_id(1), reason="", by="me"))

    assert await rows.store.audit_ends() == before


async def test_a_decision_without_an_event_shares_the_commit_of_what_is_posted_with_it(rows: Rows) -> None:
    rows.store.post(Attest(note("settings.change", rows.tick(), actor="me", detail={"level": "debug"})))
    await rows.add(new_task(1))
    await rows.store.commit(Attest(note("only.this", rows.tick())))

    entries = await rows.store.audit_entries(0, 100)
    assert [entry.action for entry in entries] == [
        "audit.begin", "task.submit", "settings.change", "commit", "only.this"
    ]  # fmt: skip
    assert entries[2].detail == '{"level":"debug"}'


async def test_an_entry_has_the_role_of_its_token_also_of_one_made_in_the_same_commit_before(rows: Rows) -> None:
    token = TokenRow(id="tok", role="operator", label="", digest=bytes(32), created_ms=1)
    told = Event(kind=EventKind.TOKEN_CREATED, at_ms=rows.tick(), facts={"token": "tok", "by": "hub"})
    await rows.store.commit(AddToken(token, told))
    await rows.store.commit(Attest(note("x", rows.tick(), actor="tok")))

    roles = [(entry.action, entry.role) for entry in await rows.store.audit(AuditQuery())]
    assert roles == [("x", "operator"), ("token.create", "hub"), ("audit.begin", "hub")]


async def test_decisions_are_found_by_who_what_about_what_and_when(rows: Rows) -> None:
    for number, (action, actor) in enumerate([("task.cancel", "a"), ("task.retry", "b"), ("taskmaster", "a")]):
        await rows.store.commit(Attest(note(action, 1_000 + number, actor=actor, subject=f"s{number}")))

    assert [found[0] for found in await said(rows, action="task")] == ["task.retry", "task.cancel"]
    assert [found[0] for found in await said(rows, action="task.retry")] == ["task.retry"]
    assert [found[0] for found in await said(rows, actor="a")] == ["taskmaster", "task.cancel"]
    assert [found[0] for found in await said(rows, subject="s1")] == ["task.retry"]
    assert [found[0] for found in await said(rows, since_ms=1_002)] == ["taskmaster"]
    assert [found[0] for found in await said(rows, until_ms=1_001)] == ["task.cancel", "audit.begin"]
    assert [found[0] for found in await said(rows, before=3, limit=1)] == ["task.cancel"]


async def test_the_oldest_entries_are_forgotten_and_the_rest_still_fits(bare: Rows) -> None:
    for number in range(1, 4):
        await bare.add(new_task(number))
    assert await bare.store.commit(ForgetAudit(at_ms=bare.tick(), through=3)) == 3
    assert await bare.store.commit(ForgetAudit(at_ms=bare.tick(), through=3)) == 0, "it is gone"
    (_, head) = await bare.store.audit_ends()
    assert await bare.store.commit(ForgetAudit(at_ms=bare.tick(), through=head.seq)) == 0, "the last one stays"

    found = await looked(bare)
    assert (found.ok, found.forgotten, found.entries) == (True, 3, 5)


async def test_text_that_no_database_holds_does_not_break_the_chain(rows: Rows) -> None:
    await rows.store.commit(
        Attest(note("x", rows.tick(), actor="a\0b\ud800", subject="\N{SNOWMAN}", detail={"a": "\0"}))
    )
    facts = {"a": "\0", "b": float("nan"), "c": 2**70}
    await rows.store.commit(Record(Event(kind=EventKind.HUB_STARTED, at_ms=rows.tick(), facts=facts)))

    assert (await looked(rows)).problems == ()


async def test_the_chain_goes_on_where_another_hub_has_left_it(rows: Rows) -> None:
    await rows.add(new_task(1))
    await rows.finish(1, (await rows.claim(1)).epoch, TaskState.COMPLETED)
    entries = await rows.store.audit_entries(0, 100)

    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))


async def test_the_chain_goes_on_behind_a_change_that_no_row_could_hold(rows: Rows) -> None:
    await rows.add(new_task(1))
    rows.store.post(Attest(note("before", rows.tick())))
    rows.store.post(Record(Event(kind=EventKind.HUB_STARTED, at_ms=2**70)))
    await rows.add(new_task(2))

    assert (await looked(rows)).problems == ()
    assert [found[0] for found in await said(rows)][:2] == ["task.submit", "before"]

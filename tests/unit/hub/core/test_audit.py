"""The promises of the audit log: nothing in it can be changed, taken out, put in or moved without being found."""

import json
import random
from collections.abc import Callable
from typing import Any, Final

import pytest
from msgspec.structs import replace

from hub.core.audit import (
    COMMIT,
    MAX_PROBLEMS,
    Entry,
    EventRow,
    Head,
    Verifier,
    begin_note,
    chained,
    checkpoint_note,
    commit_note,
    forgotten_note,
    note,
    notes_of,
    with_roles,
)
from hub.store import records
from protocol.events import Event, EventKind

AT: Final = 1_700_000_000_000


class Log:
    """A log with its events, as a store has them."""

    def __init__(self, rng: random.Random, commits: int = 12) -> None:
        self.entries: list[Entry] = []
        self.events: list[EventRow] = []
        self.base = Head()
        self.add(begin_note(AT, 1))
        for _ in range(commits):
            rows: list[EventRow] = []
            for _ in range(rng.randint(0, 5)):
                seq = len(self.events) + len(rows) + 1
                kind = rng.choice(list(EventKind))
                rows.append((seq, AT + seq, kind.value, f"t{seq}", "a", seq % 3, f'{{"n":{seq}}}'))
            if rng.random() < 0.5:
                self.add(note(rng.choice(["token.create", "task.cancel"]), AT, actor="me", detail={"n": rng.random()}))
            if rows:
                self.events += rows
                self.add(commit_note(rows))

    @property
    def head(self) -> Head:
        return Head(self.entries[-1].seq, self.entries[-1].hash) if self.entries else self.base

    def add(self, *notes: Any) -> None:
        self.entries += map(records.entry, chained(self.head, notes))

    def forget(self, count: int) -> None:
        """Entries, and with them the events that they tell of (those are kept less long)."""
        gone = self.entries[count - 1]
        self.events = [row for row in self.events if row[0] > self.told(self.entries[:count])]
        self.entries, self.base = self.entries[count:], Head(gone.seq, gone.hash)
        self.add(checkpoint_note(AT, self.base))

    @staticmethod
    def told(entries: list[Entry]) -> int:
        """The last event that any of these tells of."""
        told = [json.loads(entry.detail)["last"] for entry in entries if entry.action == COMMIT]
        return max(told, default=0)

    def problems(self, *anchors: Head, newest: int | None = None) -> list[str]:
        verifier = Verifier(self.base, anchors)
        rows = sorted(self.events)
        for entry in self.entries:
            if (batch := verifier.entry(entry)) is not None:
                verifier.commit(batch, [row for row in rows if row[0] <= batch.last], 0)
                rows = [row for row in rows if row[0] > batch.last]
        verifier.end(max((row[0] for row in self.events), default=0) if newest is None else newest)
        return verifier.problems


# --- ways to tamper ---------------------------------------------------------------------------------------------------


def edited(rng: random.Random, log: Log) -> None:
    place = rng.randrange(len(log.entries))
    entry = log.entries[place]
    name = rng.choice(["at_ms", "actor", "role", "action", "subject", "verdict", "detail", "hash"])
    value = getattr(entry, name)
    if isinstance(value, int):
        new: Any = value + rng.choice([-1, 1])
    elif isinstance(value, bytes):
        bit = rng.randrange(256)
        new = (int.from_bytes(value, "big") ^ (1 << bit)).to_bytes(32, "big")
    else:
        new = value + "x" if not value or rng.random() < 0.5 else value[:-1]
    log.entries[place] = replace(entry, **{name: new})


def deleted(rng: random.Random, log: Log) -> None:
    first = rng.randrange(len(log.entries))
    del log.entries[first : first + rng.choice([1, 1, 2, 5])]


def swapped(rng: random.Random, log: Log) -> None:
    one, other = rng.sample(range(len(log.entries)), 2)
    a, b = log.entries[one], log.entries[other]
    if rng.random() < 0.5:  # only what they say
        a, b = replace(a, seq=b.seq), replace(b, seq=a.seq)
    log.entries[one], log.entries[other] = b, a


def put_in(rng: random.Random, log: Log) -> None:
    place = rng.randrange(len(log.entries) + 1)
    copy = log.entries[rng.randrange(len(log.entries))]
    log.entries.insert(place, copy)


def forged(rng: random.Random, log: Log) -> None:
    """All from some entry on written anew, with hashes that fit."""
    place = rng.randrange(len(log.entries))
    kept, rest = log.entries[:place], log.entries[place:]
    rest[0] = replace(rest[0], actor=rest[0].actor + "x")
    log.entries = kept
    log.add(*rest)


def event_edited(rng: random.Random, log: Log) -> None:
    place = rng.randrange(len(log.events))
    row: list[Any] = list(log.events[place])
    column = rng.randrange(1, len(row))
    row[column] = row[column] + 1 if isinstance(row[column], int) else f"{row[column]}x"
    log.events[place] = tuple(row)  # type: ignore[assignment] # as long as it was


def event_deleted(rng: random.Random, log: Log) -> None:
    del log.events[rng.randrange(len(log.events))]


def event_put_in(rng: random.Random, log: Log) -> None:
    row = log.events[rng.randrange(len(log.events))]
    log.events.append((log.events[-1][0] + 1, *row[1:]))


WAYS: Final[tuple[Callable[[random.Random, Log], None], ...]] = (
    edited, deleted, swapped, put_in, forged, event_edited, event_deleted, event_put_in,
)  # fmt: skip


def tamper(seed: int) -> None:
    rng = random.Random(seed)
    log = Log(rng)
    if rng.random() < 0.3:
        log.forget(rng.randint(1, len(log.entries) // 3))
    assert log.events
    anchor, newest = log.head, log.events[-1][0]
    assert log.problems(anchor) == [], f"seed {seed}: it is whole before"
    way = rng.choice(WAYS)
    before = list(log.entries), list(log.events)

    way(rng, log)

    if (log.entries, log.events) != before:
        newest = max([newest, *(row[0] for row in log.events)])
        assert log.problems(anchor, newest=newest), f"seed {seed}: {way.__name__} was not found"


@pytest.mark.parametrize("first", [0, 200])
def test_whatever_is_done_to_the_log_or_to_its_events_is_found(first: int) -> None:
    for seed in range(first, first + 200):
        tamper(seed)


def test_an_end_that_was_cut_off_is_found_by_what_somebody_has_kept() -> None:
    log = Log(random.Random(1))
    anchor, early = log.head, Head(log.entries[3].seq, log.entries[3].hash)
    last = log.entries[-4:]
    del log.entries[-4:]
    log.events = [row for row in log.events if row[0] <= log.told(log.entries)]

    assert log.problems(early) == [], "cut off before anything was kept of it"
    assert log.problems(anchor) == [
        f"the log ends at entry {log.head.seq}, and an anchor tells of entry {last[-1].seq}"
    ]


def test_entries_that_were_forgotten_are_no_fault_and_those_that_are_gone_are() -> None:
    log = Log(random.Random(2))
    kept = log.head
    log.forget(5)
    assert log.problems(kept) == []

    taken = Log(random.Random(2))
    gone = taken.entries[4]
    taken.entries, taken.base = taken.entries[5:], Head(gone.seq, gone.hash)
    assert taken.problems()[-1:] == ["entries up to 5 are gone, and no entry tells that they were forgotten"]


def test_events_that_no_entry_tells_of_are_found() -> None:
    log = Log(random.Random(3))
    assert log.problems(newest=len(log.events) + 2)[-1].endswith("stand in no entry: entries are missing")


def test_a_log_that_is_wrong_everywhere_is_told_of_shortly() -> None:
    log = Log(random.Random(4), commits=200)
    log.entries = [replace(entry, actor="x") for entry in log.entries]

    assert len(log.problems()) == MAX_PROBLEMS


# --- what is an entry -------------------------------------------------------------------------------------------------


def event(kind: EventKind, **more: Any) -> Event:
    values = {name: more.pop(name) for name in ("task", "agent", "epoch") if name in more}
    return Event(kind=kind, at_ms=AT, seq=1, facts=more, **values)


def test_tasks_of_one_caller_are_one_entry_and_what_the_hub_does_by_itself_is_none() -> None:
    submitted = [event(EventKind.TASK_QUEUED, task=f"t{n}", by="one" if n % 2 else "two", title="x") for n in range(5)]
    more = [
        event(EventKind.TASK_ASSIGNED, task="t1", agent="a", epoch=1, host="h"),
        event(EventKind.TASK_READY, task="t"),
    ]

    notes = notes_of([*submitted, *more])

    assert [(n.action, n.actor, n.subject, n.detail) for n in notes] == [
        ("task.submit", "two", "t0", '{"tasks":3,"last":"t4"}'),
        ("task.submit", "one", "t1", '{"tasks":2,"last":"t3"}'),
    ]


@pytest.mark.parametrize(
    "told, action, subject, verdict",
    [
        (event(EventKind.TASK_QUEUED, task="t", by="me", retried=True), "task.retry", "t", "done"),
        (
            event(EventKind.TASK_CANCELLED, task="t", agent="a", epoch=2, by="me", reason="r"),
            "task.cancel",
            "t",
            "done",
        ),
        (event(EventKind.TASK_APPROVED, task="t", epoch=1, by="me", again=False), "task.review", "t", "approved"),
        (event(EventKind.TASK_REJECTED, task="t", epoch=1, by="me", again=True), "task.review", "t", "again"),
        (event(EventKind.TOKEN_REVOKED, token="k", role="admin", by="me"), "token.revoke", "k", "done"),
        (event(EventKind.AGENT_DRAINING, agent="a", by="me"), "agent.drain", "a", "done"),
        (event(EventKind.PULL_MERGED, task="t", by="hub", number=3), "pull.merge", "t", "done"),
        (event(EventKind.BACKUP_FAILED, reason="full", by="hub"), "backup.make", "", "failed"),
        (event(EventKind.HUB_STARTED, hub=7, version="1"), "hub.start", "7", "done"),
    ],
)
def test_a_decision_says_who_what_about_what_and_how_it_ended(
    told: Event, action: str, subject: str, verdict: str
) -> None:
    (found,) = notes_of([told])

    assert (found.action, found.subject, found.verdict) == (action, subject, verdict)
    assert found.actor == told.facts.get("by", "hub")


@pytest.mark.parametrize(
    "told",
    [
        event(EventKind.TASK_CANCELLED, task="t", reason="what it needs has failed"),
        event(EventKind.TASK_PAUSED, task="t", epoch=3, by="me"),  # the wish was the decision
        event(EventKind.TASK_COMPLETED, task="t", epoch=3, by="me"),
    ],
)
def test_what_follows_from_a_decision_is_none(told: Event) -> None:
    assert notes_of([told]) == []


def test_the_words_of_an_entry_always_fit() -> None:
    huge = note("x", AT, actor="a" * 1_000, subject="\0\ud800", detail={"text": "y" * 9_000, "n": 2**70})

    assert len(huge.actor) == 300
    assert huge.subject == "\N{SYMBOL FOR NULL}?"
    assert len(huge.detail) < 1_000
    assert len(chained(Head(), [huge])) == 1


def test_roles_are_those_of_the_tokens() -> None:
    notes = [
        note("x", AT, actor=actor, role=role) for actor, role in (("t1", ""), ("hub", ""), ("", ""), ("t1", "viewer"))
    ]

    assert [n.role for n in with_roles(notes, {"t1": "admin"})] == ["admin", "hub", "", "viewer"]


def test_a_detail_that_was_replaced_by_nonsense_is_told_of_and_no_end() -> None:
    for action in (COMMIT, "audit.begin", "audit.forget"):
        log = Log(random.Random(5))
        log.add(note(action, AT))
        log.entries[-1] = replace(log.entries[-1], detail="nonsense")
        assert any("detail" in found or "which events" in found for found in log.problems())


@pytest.mark.parametrize(
    "kind, facts, expected",
    [
        ("join_token_created", {"token": "J1", "by": "me"}, ("join_token.create", "J1", "done")),
        ("join_token_revoked", {"token": "J1", "by": "me"}, ("join_token.revoke", "J1", "done")),
        ("join_approved", {"code": "AB-12", "by": "me"}, ("join.decide", "AB-12", "approved")),
        ("join_denied", {"code": "AB-12", "by": "me"}, ("join.decide", "AB-12", "denied")),
        ("machine_joined", {"token": "T1", "address": "::1", "by": "J1"}, ("machine.join", "T1", "done")),
        ("machine_left", {"machine": "m", "token": "T1", "by": "T1"}, ("machine.leave", "T1", "done")),
    ],
)
def test_who_let_a_machine_in_or_did_not_is_an_entry(
    kind: str, facts: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    (found,) = notes_of([Event(kind=EventKind(kind), at_ms=AT, facts=facts)])
    assert (found.action, found.subject, found.verdict) == expected
    assert found.actor == facts["by"]


@pytest.mark.parametrize("told, problems", [(0, 1), (2, 1), (3, 0), (9, 0)])
def test_events_that_are_gone_are_missed_unless_an_entry_tells_that_they_were_forgotten(
    told: int, problems: int
) -> None:
    gone: list[EventRow] = [(seq, AT, "task_queued", None, None, None, None) for seq in (1, 2, 3)]
    notes = [begin_note(AT, 1), commit_note(gone), *([forgotten_note(AT, told)] if told else [])]
    verifier = Verifier(Head())
    for row in chained(Head(), notes):
        if (batch := verifier.entry(records.entry(row))) is not None:
            verifier.commit(batch, [], 3)
    verifier.end(3)
    assert len(verifier.problems) == problems, verifier.problems

"""Who decided what, when, and how it ended: the entries of the audit log, and the chain that holds them together.

Each entry carries a hash over the hash of the one before it and its own words, so none can be changed, taken out, put
in or moved without all that follow telling so. Decisions of people and refusals have an entry each. What the hub does
by itself, task by task (give to an agent, start, verify, end), is told by events: every commit ends with an entry
that holds the digest of its events. Taken from the end of the log entries are missed by whoever has kept the hash of
one of them (an anchor).

Pure. ``hub/store/chaining.py`` writes the entries in the commit of what they tell, ``hub/services/audit.py`` reads
them.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from protocol.audit import entry_hash
from protocol.events import Event, EventKind

GENESIS: Final = bytes(32)
"""What stands before the first entry."""
BEGIN: Final = "audit.begin"
COMMIT: Final = "commit"
CHECKPOINT: Final = "audit.forget"
FORGOTTEN: Final = "events.forget"
DONE: Final = "done"
REFUSED: Final = "refused"
MAX_DETAIL_BYTES: Final = 4_000
MAX_PROBLEMS: Final = 50
"""So many are told of one look; a log that is tampered with from early on has no end of them."""
_MAX_WORD: Final = 300
_SUBJECTS: Final = ("token", "code", "endpoint", "project", "budget", "name", "hub")
_ALONE: Final = frozenset(
    {EventKind.HUB_STARTED, EventKind.HUB_STOPPED, EventKind.HUB_RESTORED, EventKind.HUB_LOST, EventKind.STORE_CLEANED}
)
"""What nobody in particular does, and is an entry of its own all the same."""

Actions = Mapping[EventKind, tuple[str, str]]
ACTIONS: Final[Actions] = {
    EventKind.TASK_CANCELLED: ("task.cancel", DONE),
    EventKind.TASK_PRIORITISED: ("task.prioritise", DONE),
    EventKind.TASK_PAUSING: ("task.pause", DONE),
    EventKind.TASK_PAUSED: ("task.pause", DONE),
    EventKind.TASK_RESUMED: ("task.resume", DONE),
    EventKind.TASK_APPROVED: ("task.review", "approved"),
    EventKind.TASK_REJECTED: ("task.review", "rejected"),
    EventKind.PULL_APPROVED: ("pull.approve", "approved"),
    EventKind.PULL_MERGED: ("pull.merge", DONE),
    EventKind.AGENT_DRAINING: ("agent.drain", DONE),
    EventKind.AGENT_RESUMED: ("agent.resume", DONE),
    EventKind.AGENT_REMOVED: ("agent.remove", DONE),
    EventKind.AGENT_RECLAIMED: ("agent.reclaim", DONE),
    EventKind.AGENT_GIVEN_BACK: ("agent.give_back", DONE),
    EventKind.AGENT_RELEASED: ("agent.release", DONE),
    EventKind.AGENT_UPGRADING: ("agent.upgrade", DONE),
    EventKind.ENDPOINT_ADDED: ("endpoint.set", DONE),
    EventKind.ENDPOINT_REMOVED: ("endpoint.remove", DONE),
    EventKind.TOKEN_CREATED: ("token.create", DONE),
    EventKind.TOKEN_REVOKED: ("token.revoke", DONE),
    EventKind.JOIN_TOKEN_CREATED: ("join_token.create", DONE),
    EventKind.JOIN_TOKEN_REVOKED: ("join_token.revoke", DONE),
    EventKind.JOIN_APPROVED: ("join.decide", "approved"),
    EventKind.JOIN_DENIED: ("join.decide", "denied"),
    EventKind.MACHINE_JOINED: ("machine.join", DONE),
    EventKind.MACHINE_LEFT: ("machine.leave", DONE),
    EventKind.PROJECT_ADDED: ("project.add", DONE),
    EventKind.PROJECT_CHANGED: ("project.change", DONE),
    EventKind.PROJECT_REMOVED: ("project.remove", DONE),
    EventKind.PROJECT_PUSHED: ("project.push", DONE),
    EventKind.BUDGET_SET: ("budget.set", DONE),
    EventKind.BUDGET_REMOVED: ("budget.remove", DONE),
    EventKind.RATE_LIMIT_SET: ("rate_limit.set", DONE),
    EventKind.RATE_LIMIT_RESET: ("rate_limit.reset", DONE),
    EventKind.LOG_LEVELS_SET: ("log_levels.set", DONE),
    EventKind.BACKUP_MADE: ("backup.make", DONE),
    EventKind.BACKUP_FAILED: ("backup.make", "failed"),
    EventKind.HUB_STARTED: ("hub.start", DONE),
    EventKind.HUB_STOPPED: ("hub.stop", DONE),
    EventKind.HUB_LOST: ("hub.give_up", DONE),
    EventKind.HUB_RESTORED: ("hub.restore", DONE),
    EventKind.STORE_CLEANED: ("store.forget", DONE),
}
"""Events that are decisions, if they say by whom: their action and how it ended."""
_NEW: Final = frozenset({EventKind.TASK_QUEUED, EventKind.TASK_BLOCKED})
_LOOKED_AT: Final = frozenset(ACTIONS) | _NEW

EventRow = tuple[int, int, str, str | None, str | None, int | None, str | None]
"""An event as it is stored: number, time, kind, task, agent, epoch, facts."""
EntryRow = tuple[int, int, str, str, str, str, str, str, bytes]
"""An entry as it is stored: number, time, actor, role, action, subject, verdict, detail, hash."""


class Note(Struct, frozen=True, kw_only=True):
    """An entry that has no place in the log yet. ``detail`` is a JSON object; times are Unix milliseconds."""

    at_ms: int
    action: str
    actor: str = ""
    role: str = ""
    subject: str = ""
    verdict: str = DONE
    detail: str = "{}"


class Entry(Note, frozen=True, kw_only=True):
    """An entry of the log."""

    seq: int
    hash: bytes


class Head(Struct, frozen=True):
    """Where the log ends; also an anchor, what somebody remembers of it."""

    seq: int = 0
    hash: bytes = GENESIS


class Batch(Struct, frozen=True):
    """What the last entry of a commit says of its events."""

    first: int
    last: int
    digest: str


def note(
    action: str,
    at_ms: int,
    *,
    actor: str = "",
    role: str = "",
    subject: str = "",
    verdict: str = DONE,
    detail: Mapping[str, Any] | None = None,
) -> Note:
    """A note whose words fit: text is cut, and half characters are no part of it."""
    return Note(
        at_ms=at_ms,
        action=_word(action),
        actor=_word(actor),
        role=_word(role),
        subject=_word(subject),
        verdict=_word(verdict),
        detail=_detail(detail or {}),
    )


def _word(text: str) -> str:
    if text.isascii() and len(text) <= _MAX_WORD and "\0" not in text:
        return text
    plain = text.encode("utf-8", "replace").decode().replace("\0", "\N{SYMBOL FOR NULL}")
    return plain if len(plain) <= _MAX_WORD else f"{plain[: _MAX_WORD - 1]}\N{HORIZONTAL ELLIPSIS}"


def _detail(facts: Mapping[str, Any]) -> str:
    try:
        text = msgspec.json.encode(facts)
    except (UnicodeEncodeError, OverflowError, TypeError):
        text = msgspec.json.encode({name: _word(str(value)) for name, value in facts.items()})
    if len(text) > MAX_DETAIL_BYTES:
        text = msgspec.json.encode({name: _word(str(value)) for name, value in list(facts.items())[:10]})
    return text.decode()


def notes_of(events: Sequence[Event]) -> list[Note]:
    """The decisions among the events of a commit; all tasks that one caller has submitted are one of them."""
    notes: list[Note] = []
    submitted: dict[str, list[Event]] = {}
    for event in events:
        if event.kind not in _LOOKED_AT:
            continue
        by = event.facts.get("by")
        if event.kind in _NEW and "retried" not in event.facts:
            if isinstance(by, str):
                submitted.setdefault(by, []).append(event)
        elif (isinstance(by, str) and event.epoch is None) or event.kind in _ALONE or _is_review(event):
            notes.append(_decision(event, by if isinstance(by, str) else "hub"))
    for by, tasks in submitted.items():
        detail = {"tasks": len(tasks), "last": tasks[-1].task}
        subject = tasks[0].task or ""
        notes.append(note("task.submit", tasks[0].at_ms, actor=by, subject=subject, detail=detail))
    return notes


def _is_review(event: Event) -> bool:
    """Decisions about an attempt carry its epoch; a pause that has come to pass does so, too, and is no decision."""
    return "by" in event.facts and event.kind is not EventKind.TASK_PAUSED


def _decision(event: Event, by: str) -> Note:
    action, verdict = ACTIONS.get(event.kind, ("task.retry", DONE))
    if event.facts.get("again"):
        verdict = "again"
    subject = event.task or next((str(event.facts[key]) for key in _SUBJECTS if key in event.facts), event.agent or "")
    detail = {name: value for name, value in event.facts.items() if name not in {"by", "again"}}
    return note(action, event.at_ms, actor=by, subject=subject, verdict=verdict, detail=detail)


# --- the chain --------------------------------------------------------------------------------------------------------


def hash_of(before: bytes, seq: int, noted: Note) -> bytes:
    """The hash of an entry behind one with the hash ``before``."""
    n = noted
    return entry_hash(before, (seq, n.at_ms, n.actor, n.role, n.action, n.subject, n.verdict, n.detail))


def chained(head: Head, notes: Sequence[Note]) -> list[EntryRow]:
    """The notes as the next entries behind ``head``."""
    rows: list[EntryRow] = []
    hash_ = head.hash
    for seq, n in enumerate(notes, head.seq + 1):
        words = seq, n.at_ms, n.actor, n.role, n.action, n.subject, n.verdict, n.detail
        hash_ = entry_hash(hash_, words)
        rows.append((*words, hash_))
    return rows


def digest_of(rows: Sequence[EventRow]) -> str:
    """Digest of the events of a commit as they are stored, in hexadecimal digits."""
    return sha256(msgspec.msgpack.encode(rows)).hexdigest()


def commit_note(rows: Sequence[EventRow]) -> Note:
    """What ends a commit: which events it has, and their digest."""
    first, last = rows[0][0], rows[-1][0]
    detail = f'{{"first":{first},"last":{last},"digest":"{digest_of(rows)}"}}'
    return Note(at_ms=rows[-1][1], action=COMMIT, actor="hub", role="hub", detail=detail)


def begin_note(at_ms: int, first_event: int) -> Note:
    """What begins a log: events before this one are in no entry."""
    return note(BEGIN, at_ms, actor="hub", role="hub", detail={"first": first_event})


def checkpoint_note(at_ms: int, through: Head) -> Note:
    """What is left of the entries up to ``through`` when they are forgotten."""
    detail = {"through": through.seq, "hash": through.hash.hex()}
    return note(CHECKPOINT, at_ms, actor="hub", role="hub", detail=detail)


def forgotten_note(at_ms: int, through: int) -> Note:
    """What tells that the events up to a number were forgotten."""
    return note(FORGOTTEN, at_ms, actor="hub", role="hub", detail={"through": through})


def with_roles(notes: Sequence[Note], roles: Mapping[str, str]) -> list[Note]:
    """The notes with the roles of their actors, where they have none yet."""
    return [n if n.role else replace(n, role=roles.get(n.actor, "hub" if n.actor == "hub" else "")) for n in notes]


class Verifier:
    """Looks at a log from its beginning to its end, entry by entry and event by event; says what is wrong.

    Args:
        base: the last entry that was forgotten; nothing stands before the first entry else.
        anchors: entries that somebody has kept outside of the log.
    """

    def __init__(self, base: Head, anchors: Sequence[Head] = ()) -> None:
        self.problems: list[str] = []
        self.head = self._base = base
        self.entries = self.events = self.forgotten_events = 0
        self._anchors = {anchor.seq: anchor.hash for anchor in anchors if anchor.seq}
        self._is_based = base.seq == 0
        self._last_event: int | None = None
        self._gone = self._told_gone = 0  # the last event that is gone, and the last of which an entry tells that

    def entry(self, entry: Entry) -> Batch | None:
        """Look at the next entry; what it says of events, if it ends a commit."""
        self.entries += 1
        expected = self.head.seq + 1
        if entry.seq != expected:
            self._tell(f"entry {expected} is missing: entry {entry.seq} stands behind entry {self.head.seq}")
        elif hash_of(self.head.hash, entry.seq, entry) != entry.hash:
            self._tell(f"entry {entry.seq} is not what was written, or what stood before it was another one")
        self.head = Head(entry.seq, entry.hash)
        anchor = self._anchors.pop(entry.seq, None)
        if anchor is not None and anchor != entry.hash:
            self._tell(f"entry {entry.seq} is not the one that its anchor tells of: the log was written anew")
        if entry.action == COMMIT:
            return self._batch(entry)
        if entry.action == CHECKPOINT:
            self._checkpoint(entry)
        elif entry.action == BEGIN:
            self._begin(entry)
        self.later(entry)
        return None

    def later(self, entry: Entry) -> None:
        """Look only at which events it says were forgotten: it was written while the log was looked at."""
        if entry.action == FORGOTTEN and isinstance(through := self._facts(entry).get("through"), int):
            self._told_gone = max(self._told_gone, through)

    @property
    def is_owed(self) -> bool:
        """Events are gone, and no entry so far tells that they were forgotten."""
        return self._gone > self._told_gone

    def _facts(self, entry: Entry) -> dict[str, Any]:
        try:
            found = msgspec.json.decode(entry.detail)
        except msgspec.DecodeError:
            found = None
        if not isinstance(found, dict):
            self._tell(f"entry {entry.seq} has no detail that can be read")
            return {}
        return found

    def _begin(self, entry: Entry) -> None:
        first = self._facts(entry).get("first")
        if entry.seq != 1:
            self._tell(f"entry {entry.seq} begins a log, and stands in the middle of one")
        elif isinstance(first, int):
            self._last_event = first - 1

    def _checkpoint(self, entry: Entry) -> None:
        facts = self._facts(entry)
        if (facts.get("through"), facts.get("hash")) == (self._base.seq, self._base.hash.hex()):
            self._is_based = True

    def _batch(self, entry: Entry) -> Batch | None:
        try:
            return msgspec.json.decode(entry.detail, type=Batch)
        except msgspec.DecodeError:
            self._tell(f"entry {entry.seq} does not say which events its commit had")
            return None

    def commit(self, batch: Batch, rows: Sequence[EventRow], floor: int) -> None:
        """Look at the events of a commit.

        Args:
            rows: all events that are stored behind those of the commit before, up to the last one of this commit.
            floor: events up to this one were forgotten.
        """
        last, self._last_event = self._last_event, batch.last
        if last is not None and batch.first <= last:
            self._tell(f"events {batch.first} to {batch.last} are told of twice")
        if batch.first <= floor:
            self.forgotten_events += batch.last - batch.first + 1
            self._gone = min(batch.last, floor)
            return
        self.events += len(rows)
        if rows and rows[0][0] < batch.first:
            self._tell(f"event {rows[0][0]} stands in no entry")
        elif digest_of(rows) != batch.digest:
            self._tell(f"events {batch.first} to {batch.last} are not what was written")

    def end(self, newest_event: int) -> None:
        """Look at what should have come: ``newest_event`` was stored before the last entry was looked at."""
        if not self._is_based:
            self._tell(f"entries up to {self._base.seq} are gone, and no entry tells that they were forgotten")
        if self.is_owed:
            self._tell(f"events up to {self._gone} are gone, and no entry tells that they were forgotten")
        if not self.entries and newest_event:
            self._tell("the log has no entries, though events were written")
        if self._last_event is not None and newest_event > self._last_event:
            self._tell(f"events {self._last_event + 1} to {newest_event} stand in no entry: entries are missing")
        for seq, hash_ in sorted(self._anchors.items()):
            if seq > self.head.seq:
                self._tell(f"the log ends at entry {self.head.seq}, and an anchor tells of entry {seq}")
            elif seq == self._base.seq and hash_ != self._base.hash:
                self._tell(f"entry {seq} is not the one that its anchor tells of: the log was written anew")

    def _tell(self, problem: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)

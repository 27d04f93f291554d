"""The audit log: decisions that no event tells of are written down here, all are read and looked through here.

What events tell of is written by the store, in their commit (``hub/store/chaining.py``). A log that was cut off at its
end, or written anew from some place on, is whole in itself; so the hub notes the last entry in a file beside its store
every minute, and in its log of lines every hour, and holds the log to what it has noted.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog
from msgspec import Raw

from hub.core import audit as rules
from hub.core.access import Principal
from hub.core.audit import DONE, REFUSED, Batch, Entry, EventRow, Head, Note, Verifier
from hub.store.audit_changes import Attest, AuditQuery, ForgetAudit
from hub.store.store import Store
from protocol.api import ComponentHealth
from protocol.audit import AuditEntry, AuditLine, AuditLines, AuditList, AuditVerdict
from protocol.clock import Clock
from protocol.errors import BadInput, Conflict, Problem, StoreFailed, Unavailable

log = structlog.get_logger(__name__)
ANCHOR_FILE: Final = "audit.anchor"
ANCHOR_S: Final = 60.0
TOLD_S: Final = 3_600.0
PAGE: Final = 500
EVENT_PAGE: Final = 2_000
REFUSALS_MS: Final = 60_000
"""A caller who is refused the same thing again within this time is in the log already."""
MAX_REFUSALS: Final = 1_000
"""Different refusals within that time; more are not written down, as strangers could fill the disk with them."""


class Audit:
    """The log of decisions.

    Args:
        folder: where the anchor is kept; ``None``: nowhere.
        label_of: what a person has called a token.
    """

    def __init__(
        self, store: Store, clock: Clock, folder: Path | None = None, label_of: Callable[[str], str] = lambda _id: ""
    ) -> None:
        self._store, self._clock, self._label_of = store, clock, label_of
        self._file = folder / ANCHOR_FILE if folder is not None else None
        self._refused: dict[tuple[str, str, str], int] = {}
        self._looking = asyncio.Lock()
        self._problem = ""
        self._told = float("-inf")

    # --- writing ------------------------------------------------------------------------------------------------------

    def note(
        self, action: str, by: Principal | None = None, *, subject: str = "", verdict: str = DONE, **detail: Any
    ) -> Note:
        """A decision, to be posted as an ``Attest`` beside the change that it is about: they share a commit."""
        actor, role = (by.token, by.role.value) if by is not None else ("", "")
        return rules.note(
            action, self._clock.now_ms(), actor=actor, role=role, subject=subject, verdict=verdict, detail=detail
        )

    def record(
        self, action: str, by: Principal | None = None, *, subject: str = "", verdict: str = DONE, **detail: Any
    ) -> None:
        """Write a decision down with the next commit."""
        self._store.post(Attest(self.note(action, by, subject=subject, verdict=verdict, **detail)))

    def refuse(self, action: str, by: Principal | None = None, *, subject: str = "", **detail: Any) -> None:
        """Write down that something was refused, once a minute for each caller, action and subject."""
        now_ms = self._clock.now_ms()
        key = (by.token if by is not None else "", action, subject)
        if now_ms - self._refused.get(key, -REFUSALS_MS) < REFUSALS_MS:
            return
        if len(self._refused) >= MAX_REFUSALS:
            self._refused = {k: at for k, at in self._refused.items() if now_ms - at < REFUSALS_MS}
        if len(self._refused) < MAX_REFUSALS:
            self._refused[key] = now_ms
            self.record(action, by, subject=subject, verdict=REFUSED, **detail)

    # --- reading ------------------------------------------------------------------------------------------------------

    async def list(self, query: AuditQuery) -> AuditList:
        """A page of decisions, newest first."""
        entries = await self._store.audit(query)
        full = len(entries) == query.limit
        return AuditList(
            entries=tuple(self._view(entry) for entry in entries), next_cursor=str(entries[-1].seq) if full else None
        )

    async def lines(self, after: int, limit: int) -> AuditLines:
        """All entries behind the number ``after``, oldest first, with the words that their hashes are made of."""
        base, _ = await self._store.audit_ends()
        after = max(after, base.seq)
        entries = await self._store.audit_entries(after - 1 if after > base.seq else after, limit + 1)
        before = base.hash
        if after > base.seq:
            if not entries or entries[0].seq != after:
                raise BadInput([Problem("cursor", f"there is no entry {after}")], "query")
            before, entries = entries[0].hash, entries[1:]
        entries = entries[:limit]
        full = len(entries) == limit
        return AuditLines(
            entries=tuple(_line(entry) for entry in entries),
            before=before.hex(),
            next_cursor=str(entries[-1].seq) if full else None,
        )

    def _view(self, entry: Entry) -> AuditEntry:
        return AuditEntry(
            seq=entry.seq,
            at=datetime.fromtimestamp(entry.at_ms / 1000, UTC),
            actor=entry.actor,
            actor_label=self._label_of(entry.actor),
            role=entry.role,
            action=entry.action,
            subject=entry.subject,
            verdict=entry.verdict,
            detail=Raw(entry.detail.encode()),
            hash=entry.hash.hex(),
        )

    # --- looking through ----------------------------------------------------------------------------------------------

    async def verify(self, anchor: Head | None = None) -> AuditVerdict:
        """Look through the whole log, and the events that it tells of.

        Args:
            anchor: an entry that somebody has kept.
        Raises:
            Conflict: it is being looked through already.
        """
        if self._looking.locked():
            raise Conflict("the audit log is being looked through already; ask again when that is done")
        async with self._looking:
            began = self._clock.monotonic()
            noted = await asyncio.to_thread(self._noted)
            anchors = [head for head in (noted, anchor) if head is not None]
            base, looked = await self._look(anchors)
            if looked.problems and (await self._store.audit_ends())[0] != base:
                base, looked = await self._look(anchors)  # entries were forgotten meanwhile
        if looked.problems:
            log.error("audit_broken", problems=len(looked.problems), first=looked.problems[0])
        return AuditVerdict(
            ok=not looked.problems,
            problems=tuple(looked.problems),
            entries=looked.entries,
            events=looked.events,
            forgotten=base.seq,
            forgotten_events=looked.forgotten_events,
            head=looked.head.seq,
            hash=looked.head.hash.hex(),
            anchored=noted.seq if noted else None,
            seconds=round(self._clock.monotonic() - began, 3),
        )

    async def _look(self, anchors: Sequence[Head]) -> tuple[Head, Verifier]:
        newest = (await self._store.cursor(0)).newest
        base, head = await self._store.audit_ends()
        verifier, events = Verifier(base, anchors), _Events(self._store)
        after = base.seq
        while after < head.seq and (page := await self._store.audit_entries(after, PAGE)):
            after = page[-1].seq
            batches = [batch for entry in page if (batch := verifier.entry(entry)) is not None]
            for batch in batches:
                rows = await events.through(batch, batches[-1].last)
                verifier.commit(batch, rows, events.floor)
        while verifier.is_owed and (page := await self._store.audit_entries(after, PAGE)):
            after = page[-1].seq
            for entry in page:
                verifier.later(entry)  # events may have been forgotten meanwhile
        verifier.end(newest)
        return base, verifier

    # --- anchors ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Note the last entry every minute, until cancelled."""
        while True:
            try:
                await self.anchor()
            except StoreFailed:
                return  # the hub is ending
            except Unavailable as exc:
                log.info("audit_anchor_postponed", why=str(exc))
            await asyncio.sleep(ANCHOR_S)

    async def anchor(self) -> None:
        """Note the last entry, if the log still has the one that was noted before."""
        base, head = await self._store.audit_ends()
        noted = await asyncio.to_thread(self._noted)
        if noted is not None and noted.seq > base.seq:
            found = await self._store.audit_entries(noted.seq - 1, 1)
            if not found or (found[0].seq, found[0].hash) != (noted.seq, noted.hash):
                if not self._problem:
                    log.error("audit_broken", anchor=noted.seq, head=head.seq, next="agentcom audit verify")
                self._problem = f"entry {noted.seq}, which was noted in {ANCHOR_FILE}, is gone or another one"
                return
        self._problem = ""
        if self._clock.monotonic() - self._told >= TOLD_S:
            self._told = self._clock.monotonic()
            log.info("audit_head", seq=head.seq, hash=head.hash.hex())
        if noted is None or noted.seq < head.seq:
            await asyncio.to_thread(self._keep, head)

    def health(self) -> ComponentHealth:
        """Whether the log still has what was noted of it."""
        if self._problem:
            return ComponentHealth(state="degraded", detail=f"{self._problem}; look: agentcom audit verify")
        return ComponentHealth(state="ok", detail="")

    def _noted(self) -> Head | None:
        if self._file is None:
            return None
        try:
            seq, hash_ = self._file.read_text("ascii").split()
            return Head(int(seq), bytes.fromhex(hash_))
        except (OSError, ValueError):
            return None

    def _keep(self, head: Head) -> None:
        if self._file is None:
            return
        draft = self._file.with_name(f".{ANCHOR_FILE}")
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(f"{head.seq} {head.hash.hex()}\n")
            draft.replace(self._file)
        except OSError as exc:
            log.warning("audit_anchor_failed", why=str(exc), next="a log that is cut off may not be noticed")

    async def forget(self, before_ms: int) -> int:
        """Forget the entries that are older than this (Unix ms), all but the last; how many."""
        base, head = await self._store.audit_ends()
        through, after = 0, base.seq
        while page := await self._store.audit_entries(after, PAGE):
            old = [entry.seq for entry in page if entry.at_ms < before_ms and entry.seq < head.seq]
            through = old[-1] if old else through
            if len(old) < len(page):
                break
            after = through
        if not through:
            return 0
        forgotten: int = await self._store.commit(ForgetAudit(at_ms=self._clock.now_ms(), through=through))
        return forgotten


class _Events:
    """The stored events, read in pages and given out commit by commit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows: list[EventRow] = []
        self._read: int | None = None
        self.floor = 0

    async def through(self, batch: Batch, until: int) -> list[EventRow]:
        """All rows behind those that were given before, up to the last one of ``batch``; reads on to ``until``."""
        if self._read is None:
            self._read = batch.first - 1
        while self._read < batch.last:
            page = await self._store.event_rows(self._read, until, EVENT_PAGE)
            self._rows += page
            self._read = page[-1][0] if len(page) == EVENT_PAGE else until
            self.floor = (await self._store.cursor(0)).floor
        count = next((n for n, row in enumerate(self._rows) if row[0] > batch.last), len(self._rows))
        found, self._rows = self._rows[:count], self._rows[count:]
        return found


def _line(entry: Entry) -> AuditLine:
    return AuditLine(
        seq=entry.seq,
        at_ms=entry.at_ms,
        actor=entry.actor,
        role=entry.role,
        action=entry.action,
        subject=entry.subject,
        verdict=entry.verdict,
        detail=entry.detail,
        hash=entry.hash.hex(),
    )

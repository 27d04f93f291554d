"""The entries of the audit log that a commit has to write: its decisions, and the digest of its events.

Where several hubs share a database, the head of the chain is read in the transaction that goes on with it, so they
write one chain, in the order of their transactions. Who writes alone has it in mind from one commit to the next.
"""

from collections.abc import Sequence
from typing import Final

from hub.core.audit import EntryRow, EventRow, Head, Note, begin_note, chained, commit_note, with_roles
from hub.store.records import Row

_UNKNOWN: Final = ""


class Chain:
    """What a connection knows of the audit log: the roles of the tokens that it has met (they never change).

    Attributes:
        head: where the log ends; ``None``: that has to be read.
    """

    def __init__(self) -> None:
        self.head: Head | None = None
        self._roles: dict[str, str] = {"hub": "hub", "": ""}

    def unknown(self, notes: Sequence[Note]) -> set[str]:
        """Actors whose role has to be looked up."""
        return {n.actor for n in notes if not n.role and n.actor not in self._roles}

    def learn(self, rows: Sequence[Row], asked: set[str]) -> None:
        """Take note of what tokens the store has."""
        self._roles.update(dict.fromkeys(asked, _UNKNOWN))
        self._roles.update({str(row[0]): str(row[1]) for row in rows})

    def rows(self, head: Head, notes: Sequence[Note], events: Sequence[EventRow], newest: int) -> list[EntryRow]:
        """The rows of new entries: ``notes``, then what ends the commit with these events."""
        found = with_roles(notes, self._roles) if notes else []
        if events:
            found.append(commit_note(events))
        if not head.seq:
            first = events[0][0] if events else newest + 1
            found.insert(0, begin_note(found[0].at_ms, first))
        return chained(head, found)

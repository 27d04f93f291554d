"""The verbs of the audit log: write a decision down, forget the oldest entries. Chained by ``chaining.py``."""

from hub.core.audit import Head, checkpoint_note
from hub.store.audit_changes import Attest, ForgetAudit
from hub.store.batches import Batches, Statements


class AuditVerbs(Batches):
    """The verbs of the audit log, by the changes that ask for them."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        self._verbs |= {Attest: self._attest, ForgetAudit: self._forget_audit}

    async def _attest(self, change: Attest) -> None:
        self._notes.append(change.note)

    async def _forget_audit(self, change: ForgetAudit) -> int:
        row = await self._row("audit_hash", change.through)
        if row is None:  # there is no such entry, or it is the last one
            return 0
        base = Head(change.through, bytes(row[0]))
        forgotten = await self._statements.changed("forget_audit", base.seq)
        await self._run("move_audit_base", base.seq, base.hash)
        self._notes.append(checkpoint_note(change.at_ms, base))
        return forgotten

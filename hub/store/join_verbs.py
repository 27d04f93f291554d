"""The verbs of machines that join: who is let in, by what, and never twice for one use of a join token."""

import hmac
from collections.abc import Sequence
from typing import Any, TypeGuard

import msgspec

from hub.core.access import Scope
from hub.store import join_changes as c
from hub.store.batches import Batches, Statements
from protocol.errors import Conflict, NotFound, Overloaded
from protocol.joining import JoinRefused, MachineFacts


class JoinVerbs(Batches):
    """The verbs of machines that join, by the changes that ask for them."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        self._verbs |= {
            c.AddJoinToken: self._add_join_token,
            c.RevokeJoinToken: self._revoke_join_token,
            c.AskToJoin: self._ask_to_join,
            c.DecideJoin: self._decide_join,
            c.LetIn: self._let_in,
            c.LetGo: self._let_go,
            c.BindMachine: self._bind,
        }

    async def _add_join_token(self, change: c.AddJoinToken) -> None:
        t = change.token
        await self._run("add_join_token", t.id, t.label, t.digest, t.uses, t.created_ms, t.expires_ms, t.created_by)
        self._note(change.event)

    async def _revoke_join_token(self, change: c.RevokeJoinToken) -> None:
        if await self._row("join_token", change.id) is None:
            raise NotFound("join token", change.id)
        if await self._changed("revoke_join_token", change.id, change.at_ms):
            self._note(change.event)

    async def _ask_to_join(self, change: c.AskToJoin) -> c.MachineRow:
        asks = change.machine
        known, old = await self._machine(asks.key), await self._machine(asks.replaces)
        _check_is_new(known, asks.attempt)
        _check_counts(known, old, asks)
        if known is not None and known.state in {c.WAITING, c.APPROVED} and not _is_over(known, asks.asked_ms):
            kept = msgspec.structs.replace(known, attempt=asks.attempt)
            await self._put(kept)
            return kept
        await self._run("forget_requests", asks.asked_ms)
        row = await self._row("waiting_machines")
        if row is not None and row[0] >= change.most:
            why = f"{row[0]} machines wait for a person already"
            raise Overloaded(why, 60.0)
        if known is not None:  # it was let in before: it keeps its name and its token until it is let in again
            counts = known.token and await self._row("is_revoked", known.token) is None
            name = known.name if counts else asks.name or known.name
            asks = msgspec.structs.replace(asks, token=known.token, let_in=known.let_in, name=name)
            asks = msgspec.structs.replace(asks, bound_ms=known.bound_ms, replaces=asks.replaces or known.replaces)
        elif old is not None:
            asks = msgspec.structs.replace(asks, name=asks.name or old.name)
        await self._put(asks)
        self._note(change.event)
        return asks

    async def _decide_join(self, change: c.DecideJoin) -> None:
        row = await self._row("machine_of_code", change.code)
        machine = None if row is None else machine_of(row)
        if machine is None or (machine.state == c.WAITING and _is_over(machine, change.at_ms)):
            raise NotFound("machine that asks to join", change.code)
        wanted = c.APPROVED if change.is_approved else c.DENIED
        if machine.state == wanted:
            return
        if machine.state != c.WAITING:
            raise Conflict(f"machine {change.code} is {machine.state}; nothing is left to decide")
        await self._put(msgspec.structs.replace(machine, state=wanted, decided_by=change.by))
        self._note(change.event)

    async def _let_in(self, change: c.LetIn) -> c.MachineRow:
        asks, token = change.machine, change.token
        known, old = await self._machine(asks.key), await self._machine(asks.replaces)
        _check_is_new(known, asks.attempt)
        _check_counts(known, old, asks)
        bound_ms = _bound(change, (known, old))
        burns, was = False, known or old
        renews = await self._may_renew(known, old)
        if renews:
            pass  # who holds the key that counts now may have another one
        elif change.join_token:
            burns = await self._needs_use(change, known)
        elif _may_wait(known, change.at_ms, asks.code):
            waits = msgspec.structs.replace(known, attempt=asks.attempt)
            await self._put(waits)
            return waits
        name = was.name if was is not None and was.name and not change.names_itself else asks.name
        if await self._row("machine_named", name, asks.key, asks.replaces) is not None:
            raise c.MachineNameTaken(name)
        if burns:
            await self._run("burn_join_token", change.join_token)
        for each in (known, old):
            if each is not None and each.token:
                await self._run("revoke_token", each.token, change.at_ms)
        if old is not None:
            await self._put(msgspec.structs.replace(old, state=c.REPLACED))
        label = f"machine {name}"
        scope = msgspec.json.encode(Scope(agents=(name,))).decode()  # it speaks for no other sidecar
        values = token.id, token.role, label, token.digest, token.created_ms, token.expires_ms, scope
        await self._run("add_token", *values)
        let_in = was.let_in if renews and was is not None else change.join_token or "request"
        kept = msgspec.structs.replace(
            asks, state=c.JOINED, name=name, token=token.id, let_in=let_in, joined_ms=change.at_ms, expires_ms=None
        )
        replaces = asks.replaces or (known.replaces if known is not None else "")
        kept = msgspec.structs.replace(kept, bound_ms=bound_ms, replaces=replaces)
        await self._put(kept)
        for event in change.events:
            self._note(event.with_facts(machine=name, **({"replaces": old.code} if old is not None else {})))
        return kept

    async def _may_renew(self, known: c.MachineRow | None, old: c.MachineRow | None) -> bool:
        """Whether a machine that takes part gives up its key for another one, or has, and the answer was lost."""
        if old is None:
            return False
        now = known if old.state == c.REPLACED else old
        return (
            now is not None
            and now.state == c.JOINED
            and await self._row("is_revoked", now.token) is None
            and await self._row("is_quarantined", now.name) is None
        )

    async def _needs_use(self, change: c.LetIn, known: c.MachineRow | None) -> bool:
        """Whether a use of the join token has to be burned for it.

        Raises:
            JoinRefused: it does not let this machine in.
        """
        row = await self._row("join_token", change.join_token)
        # An unknown token takes the same way as a wrong one.
        kept = bytes(row[2]) if row is not None else bytes(32)
        if not hmac.compare_digest(kept, change.digest) or row is None:
            raise JoinRefused("this hub does not know the join token; make a new one: agentcom token create")
        _, _, _, uses, used, _, expires_ms, _, revoked_ms = row
        if revoked_ms is not None:
            raise JoinRefused("the join token was revoked; make a new one: agentcom token create")
        if expires_ms <= change.at_ms:
            raise JoinRefused("the join token has expired; make a new one: agentcom token create")
        is_again = known is not None and known.state == c.JOINED and known.let_in == change.join_token
        if is_again and known is not None and await self._row("is_revoked", known.token) is None:
            return False  # its answer was lost: the same machine asks again, and nobody has thrown it out
        if used >= uses:
            times = "once" if used == 1 else f"{used} times"
            raise JoinRefused(
                f"the join token was used {times}, as often as it may be; make a new one: agentcom token create"
            )
        return True

    async def _let_go(self, change: c.LetGo) -> None:
        row = await self._row("machine_of_token", change.token)
        if row is None:
            return
        await self._put(msgspec.structs.replace(machine_of(row), state=c.LEFT))
        await self._run("revoke_token", change.token, change.at_ms)
        self._note(change.event)

    async def _bind(self, change: c.BindMachine) -> None:
        await self._run("bind_machine", change.key, change.at_ms)

    async def _machine(self, key: str) -> c.MachineRow | None:
        row = await self._row("machine", key)
        return None if row is None else machine_of(row)

    async def _put(self, machine: c.MachineRow) -> None:
        facts = msgspec.json.encode(machine.facts).decode()
        m = machine
        values = (m.key, m.code, m.state, m.name, m.address, facts, m.attempt, m.asked_ms, m.expires_ms)
        await self._run("put_machine", *values, m.token, m.let_in, m.decided_by, m.joined_ms, m.bound_ms, m.replaces)


def machine_of(row: Sequence[Any]) -> c.MachineRow:
    """A machine, from the columns of the queries ``machine*``."""
    key, code, state, name, address, facts, attempt, asked, expires, token, let_in, by, joined, bound, replaces = row
    return c.MachineRow(
        key=key,
        code=code,
        state=state,
        name=name,
        address=address,
        facts=msgspec.json.decode(facts, type=MachineFacts),
        attempt=attempt,
        asked_ms=asked,
        expires_ms=expires,
        token=token,
        let_in=let_in,
        decided_by=by,
        joined_ms=joined,
        bound_ms=bound,
        replaces=replaces,
    )


def _check_is_new(known: c.MachineRow | None, attempt: int) -> None:
    """Nothing that was heard before is done again: who repeats it is not the machine, or has lost its count."""
    if known is not None and attempt <= known.attempt:
        raise JoinRefused(
            f"this request was heard before (its number is {attempt}, the last one was {known.attempt}); "
            "a copy of a machine has to make a key of its own: agentcom leave --purge there, then join"
        )


def _check_counts(known: c.MachineRow | None, old: c.MachineRow | None, asks: c.MachineRow) -> None:
    """A key that was given up never counts again, and is given up for one other key only."""
    is_again = known is not None and known.replaces == asks.replaces
    is_over = known is not None and known.state == c.REPLACED
    if is_over or (old is not None and old.state == c.REPLACED and not is_again):
        raise JoinRefused(
            "this machine has had a newer key since: what is here is a copy of it, or an old backup; "
            "agentcom leave --purge here, then join"
        )


def _bound(change: c.LetIn, were: tuple[c.MachineRow | None, ...]) -> int | None:
    """Since when the machine has to sign its connections.

    Raises:
        JoinRefused: it had to before, and does not any more.
    """
    since = [each.bound_ms for each in were if each is not None and each.bound_ms is not None]
    if not since:
        return change.at_ms if change.binds else None
    if not change.binds:
        raise JoinRefused(
            "this machine signs its connections, and this release of AgentCom cannot: bring it to that of the hub"
        )
    return min(since)


def _may_wait(known: c.MachineRow | None, now_ms: int, code: str) -> TypeGuard[c.MachineRow]:
    """Whether nobody has decided yet about a machine without a join token; ``False``: it is approved.

    Raises:
        JoinRefused: it may not come in.
    """
    if known is None or (known.state == c.WAITING and _is_over(known, now_ms)):
        raise JoinRefused("nobody has approved this machine; ask again: agentcom join URL")
    if known.state == c.DENIED:
        raise JoinRefused(f"a person has denied this machine ({code})")
    if known.state in {c.LEFT, c.JOINED}:
        raise JoinRefused("this machine is not waiting to be approved; let it ask again: agentcom rejoin")
    return known.state == c.WAITING


def _is_over(machine: c.MachineRow, now_ms: int) -> bool:
    return machine.expires_ms is not None and machine.expires_ms <= now_ms

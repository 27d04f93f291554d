"""What the verbs of hubs and agents do to the rows; the rules are those of ``verbs.py``, which builds on this.

Leases of hubs are compared with one clock, the database's (``hub_clock``). Only the hub that leads gives up others, and
in the same transaction it takes what they held: so an attempt in hand always has exactly one hub that answers for it.
"""

import json
from collections.abc import Sequence
from typing import Final

from hub.store import hub_changes as h
from hub.store import records
from hub.store.batches import Statements
from hub.store.endpoint_verbs import EndpointVerbs
from hub.store.refusals import Evicted, NameTaken, NodeInUse, NotLeader, Overtaken
from protocol.errors import NotFound
from protocol.events import EventKind

SWEEPER: Final = "sweeper"
"""The duty of looking at what time does to rows; whoever has it also gives up hubs that are gone."""


class HubVerbs(EndpointVerbs):
    """The verbs of hubs and agents."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        self._verbs |= {
            h.EnterHub: self._enter_hub,
            h.RenewHub: self._renew_hub,
            h.LeaveHub: self._leave_hub,
            h.ReadHeld: self._read_held,
            h.PutAgent: self._put_agent,
            h.LeaveAgent: self._leave_agent,
            h.MarkAgent: self._mark_agent,
        }

    # --- hubs ---------------------------------------------------------------------------------------------------------

    async def _clock_ms(self, at_ms: int) -> int:
        ((now_ms,),) = await self._rows("hub_clock", at_ms)
        return int(now_ms)

    async def _enter_hub(self, change: h.EnterHub) -> h.Standing:
        if later := await self._row("later_hub", change.node, change.boot):
            raise NodeInUse(change.node, change.boot, later[0])
        now_ms = await self._clock_ms(change.at_ms)
        gone = await self._rows("forget_earlier_hubs", change.node, change.boot)
        until_ms = now_ms + change.lease_ms
        await self._run("put_hub", change.boot, change.node, change.url, change.version, now_ms, until_ms)
        leader = await self._lead(change.boot, now_ms, until_ms)
        taken = await self._take_over(change.boot, gone, change.at_ms)
        return await self._standing(leader, gone, taken, with_held=True)

    async def _renew_hub(self, change: h.RenewHub) -> h.Standing:
        now_ms = await self._clock_ms(change.at_ms)
        until_ms = now_ms + change.lease_ms
        if not await self._changed("renew_hub", change.boot, change.url, until_ms):
            return h.Standing(is_known=False)
        leader = await self._lead(change.boot, now_ms, until_ms)
        gone: Sequence[records.Row] = ()
        taken: frozenset[str] = frozenset()
        if leader is not None and change.may_bury:
            gone = await self._rows("forget_expired_hubs", now_ms, change.boot)
            taken = await self._take_over(change.boot, gone, change.at_ms)
        return await self._standing(leader, gone, taken, with_held=bool(taken))

    async def _lead(self, boot: int, now_ms: int, until_ms: int) -> int | None:
        row = await self._row("lead", SWEEPER, boot, until_ms, now_ms)
        return row[0] if row else None

    async def _take_over(self, boot: int, gone: Sequence[records.Row], at_ms: int) -> frozenset[str]:
        """Take what nobody answers for any more; the tasks."""
        for lost, url, until_ms in gone:
            if until_ms:  # it has not said that it leaves
                self._tell(EventKind.HUB_LOST, at_ms, hub=lost, url=url, by=boot)
        return frozenset(task for (task,) in await self._rows("take_over", boot))

    async def _standing(
        self, leader: int | None, gone: Sequence[records.Row], taken: frozenset[str], *, with_held: bool
    ) -> h.Standing:
        return h.Standing(
            is_known=True,
            leader=leader,
            hubs=tuple(records.hub(row) for row in await self._rows("hubs")),
            buried=tuple(row[0] for row in gone),
            taken=taken,
            held=await self._all_held() if with_held else (),
        )

    async def _leave_hub(self, change: h.LeaveHub) -> None:
        if await self._changed("leave_hub", change.boot):
            await self._run("abdicate", change.boot)
            self._tell(EventKind.HUB_STOPPED, change.at_ms, hub=change.boot)

    async def _read_held(self, _change: h.ReadHeld) -> tuple[h.HeldRow, ...]:
        return await self._all_held()

    async def _all_held(self) -> tuple[h.HeldRow, ...]:
        return tuple(records.held(row) for row in await self._rows("held"))

    async def _assert_leads(self, epoch: int | None) -> None:
        """A leader that was replaced finds out before it writes anything; who claims no leadership is not asked."""
        if epoch is None:
            return
        ((current,),) = await self._rows("leader_epoch", SWEEPER)
        if current != epoch:
            raise NotLeader(epoch, current)

    # --- agents -------------------------------------------------------------------------------------------------------

    async def _put_agent(self, change: h.PutAgent) -> h.Joined:
        row = await self._row("find_agent", change.name)
        seat, draining, instance, quarantine = 1, bool(change.draining), change.instance, ""
        if row is not None:
            await self._assert_newest(change, row)
            seat, instance = row[1] + 1, change.instance or row[5]
            draining = bool(row[4]) if change.draining is None else change.draining
            quarantine = row[7]
        await self._run(
            "put_agent",
            change.name,
            change.host,
            change.boot,
            change.slots,
            change.version,
            json.dumps(change.capabilities),
            draining,
            change.at_ms,
            change.leaving,
            instance,
            change.hub,
            seat,
            change.dial,
        )
        held = tuple(records.held(row) for row in await self._rows("held_elsewhere", change.name, change.hub))
        if held:
            await self._run("adopt", change.name, change.hub)
        if change.event is not None:
            self._note(change.event.with_facts(seat=seat, hub=change.hub))
        return h.Joined(seat=seat, draining=draining, held=held, quarantine=quarantine)

    async def _assert_newest(self, change: h.PutAgent, row: records.Row) -> None:
        """Pass if nobody has come under this name who is newer, or is another."""
        boot, _, dial, hub, _, instance, host, _ = row
        if change.instance and instance and change.instance != instance:
            # Boots of another state directory are counted by themselves; while the first is at work, it stays.
            is_here = hub is None or hub == change.hub  # then that hub knows best whether it is at work
            if not is_here and await self._row("hub_lives", hub, await self._clock_ms(change.at_ms)):
                raise NameTaken(change.name, host)
        elif change.boot < boot:
            raise Evicted(change.name, change.boot, boot)
        elif change.boot == boot and 0 < change.dial <= dial:
            raise Overtaken(change.name, change.dial, dial)

    async def _leave_agent(self, change: h.LeaveAgent) -> bool:
        left = await self._changed("leave_agent", change.name, change.seat, change.hub, change.at_ms)
        if left:
            self._note(change.event)
        return left

    async def _mark_agent(self, change: h.MarkAgent) -> None:
        if not await self._changed("mark_agent", change.name, change.draining, change.leaving, change.quarantine):
            raise NotFound("agent", change.name)
        self._note(change.event)

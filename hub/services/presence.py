"""Which agents there are, what they hold, and whether they are alive.

A sidecar introduces itself with its boot epoch and its inventory. The highest boot of a name counts; an older one is
turned away, and so is one from another state directory while the first is connected: two of one name raise an alarm.
Two that prove that they hold the key of one machine are a copy and its original, and nobody can tell which is which:
the name gets no work until a person has decided (quarantine).

For every attempt on either side's list there is one verdict before any new work: keep, stop or unknown.
Heartbeats renew leases in memory only (a restarted hub gives every lease a full term), so they cost no commit.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import structlog

from hub.core.agent import Agent, Held, same
from hub.core.fleet import Fleet
from hub.core.lifecycle import Lifecycle
from hub.core.routing import decode_placement, requirements_of
from hub.store.changes import Exonerate, Record
from hub.store.hub_changes import HeldRow, Joined, LeaveAgent, MarkAgent, PutAgent
from hub.store.keeping_changes import RemoveAgent
from hub.store.refusals import Cloned, Evicted, NameTaken, Overtaken
from hub.store.rows import agent_view
from hub.store.store import Start, Store
from protocol import messages
from protocol.api import AgentList, AgentView
from protocol.clock import Clock
from protocol.errors import Conflict, NotFound, Overloaded
from protocol.events import Event, EventKind
from protocol.model import AgentState, AttemptId, AttemptState

log = structlog.get_logger(__name__)

MAX_AGENTS: Final = 20_000
"""Names that are remembered: each costs memory for as long as nobody forgets it."""
FULL_FLEET_S: Final = 60.0
ALARM_MS: Final = 3_600_000
"""How long the same alarm is not told again."""

_ENDED: Final = frozenset({AttemptState.PASSED, AttemptState.FAILED, AttemptState.LOST, AttemptState.CANCELLED})


class Presence:
    """The use cases of agents coming, living and going, and of people looking at them."""

    def __init__(  # noqa: PLR0913 - the parts it is made of
        self,
        store: Store,
        fleet: Fleet,
        clock: Clock,
        *,
        hub: int = 0,
        lease_s: float,
        lose: Callable[[Held, str], None],
        send: Callable[[str, int, messages.Message], None],
        hubs: Callable[[], Mapping[int, str]] = dict,
        on_heartbeat: Callable[[Agent, messages.Heartbeat], None] = lambda _agent, _heartbeat: None,
    ) -> None:
        self._store, self._fleet, self._clock, self._hub = store, fleet, clock, hub
        self._lease_s, self._lose, self._send, self._hubs = lease_s, lose, send, hubs
        self._on_heartbeat = on_heartbeat
        self._lifecycle = Lifecycle()

    def restore(self, start: Start) -> None:
        """What a previous hub knew; every held attempt gets a full lease, for its agent to come back in."""
        for row in start.agents:
            agent = self._fleet.agent(row.name)
            agent.host, agent.boot, agent.slots, agent.version = row.host, row.boot, row.slots, row.version
            agent.capabilities, agent.is_draining = same(row.capabilities), row.draining
            agent.last_seen_ms, agent.is_leaving, agent.instance = row.last_seen_ms, row.leaving, row.instance
            agent.quarantine = row.quarantine
            agent.seat, agent.hub = row.seat, row.hub
        for held in start.standing.held:
            if held.task.hub != start.hub_boot:
                self._fleet.give_away(held.task.id, held.attempt.agent)
        self.take(held for held in start.standing.held if held.task.hub == start.hub_boot)

    def take(self, rows: Iterable[HeldRow]) -> None:
        """Answer for these attempts from now on, each with a full lease; what was known of the same tasks is over."""
        until = self._clock.monotonic() + self._lease_s
        for row in rows:
            task, attempt = row.task, row.attempt
            if (known := self._fleet.held.get(task.id)) is not None:
                self._fleet.release(task.id, known.epoch)
            agent, requirements = self._fleet.agent(attempt.agent), requirements_of(task.class_text)
            placement = decode_placement(attempt.placement) if requirements.needs_model else None
            held = Held(
                task.id,
                task.epoch,
                attempt.agent,
                attempt.boot,
                until,
                state=attempt.state,
                retries=task.retries,
                infra_failures=task.infra_failures,
                max_retries=task.max_retries,
                alone=requirements.alone,
                kind=requirements.kind,
                repo=requirements.repo,
                is_committed=True,
                is_proof=requirements.proof is not None,
            )
            if placement is not None:
                held.model, held.server = placement.model, self._fleet.server_called(agent, placement.endpoint)
            self._fleet.take(held)

    # --- sidecars -----------------------------------------------------------------------------------------------------

    async def hello(
        self, hello: messages.Hello, challenged_at: float | None = None
    ) -> tuple[tuple[messages.Verdict, ...], list[Held]]:
        """A sidecar introduces itself.

        Args:
            hello: what it says.
            challenged_at: when it was asked for the signature of its machine, which it has given (seconds of the
                monotonic clock): it has lived at that time; ``None``: it has no key.
        Returns:
            A verdict for every attempt in its inventory, and the attempts that it should have but does not list and has
            never accepted: they are to be sent again.
        Raises:
            Evicted: a newer boot of this name is known, or has come meanwhile.
            NameTaken: a sidecar with another state directory is connected under this name.
            Cloned: it is older than a start that was known before it was asked to sign: there are two.
            Overtaken: it has introduced itself again since it sent this, or a newer start came while it did.
            Overloaded: more agents are known than a hub remembers.
        """
        if len(self._fleet.agents) >= MAX_AGENTS and hello.sidecar not in self._fleet.agents:
            raise Overloaded(f"{len(self._fleet.agents)} agents are known, no more can be", FULL_FLEET_S)
        agent = self._fleet.agent(hello.sidecar)
        ended = await self._known_tasks(hello.inventory)
        is_other = agent.instance != hello.instance and bool(agent.instance and hello.instance)
        if is_other and agent.state is not AgentState.OFFLINE:
            self._alarm(agent, hello, "turned away")
            raise NameTaken(agent.name, agent.host)
        if hello.boot < agent.boot and not is_other:
            raise self._older(agent, hello, challenged_at)
        is_new_boot = hello.boot != agent.boot or is_other
        if is_new_boot:
            # Its last start is gone, though its socket may still look alive: nothing may be sent there any more.
            self._lifecycle.fire(agent, "lose")
        agent.began(hello.boot, self._clock.monotonic())
        agent.host, agent.slots = hello.host, hello.slots
        agent.version, agent.capabilities = hello.version, same(hello.capabilities)
        agent.endpoints, agent.last_seen_ms = hello.endpoints, self._clock.now_ms()
        agent.is_leaving, agent.instance = hello.draining, hello.instance or agent.instance
        agent.is_behind = False
        self._fleet.changed(agent)  # before anything is awaited: ways name endpoints that it may no longer have
        facts = {"host": agent.host, "slots": agent.slots, "boot": agent.boot, "new_boot": is_new_boot}
        try:
            joined = await self._join(hello, self._event(agent, EventKind.AGENT_JOINED, **facts))
        except (Evicted, NameTaken) as exc:  # another hub knows better
            if isinstance(exc, Evicted) and challenged_at is not None:
                raise Overtaken(hello.sidecar, hello.dial, hello.dial) from exc  # it shows when it comes again
            self._alarm(agent, hello, "evicted" if isinstance(exc, Evicted) else "turned away")
            raise
        if hello.boot != agent.boot:
            raise Evicted(hello.sidecar, hello.boot, agent.boot)
        agent.quarantine = agent.quarantine or joined.quarantine
        agent.seat, agent.is_draining, agent.hub = joined.seat, joined.draining, self._hub
        self.take(joined.held)
        verdicts, again = self._reconcile(agent, hello.inventory, ended, is_new_boot=is_new_boot)
        log.info("agent_joined", agent=agent.name, host=agent.host, boot=agent.boot, held=len(agent.held))
        return verdicts, again

    async def _join(self, hello: messages.Hello, event: Event) -> Joined:
        change = PutAgent(
            at_ms=self._clock.now_ms(),
            name=hello.sidecar,
            host=hello.host,
            boot=hello.boot,
            slots=hello.slots,
            version=hello.version,
            capabilities=tuple(sorted(set(hello.capabilities))),
            leaving=hello.draining,
            instance=hello.instance,
            hub=self._hub,
            dial=hello.dial,
            event=event,
        )
        joined: Joined = await self._store.commit(change)
        return joined

    def holds(self, attempt: AttemptId) -> bool:
        """Whether the attempt is the current one of its task, and its sidecar's."""
        held = self._fleet.held.get(attempt.task)
        return held is not None and attempt == AttemptId(held.agent, held.boot, held.task, held.epoch)

    def is_draining(self, name: str) -> bool:
        """Whether a person wants the agent to get no new work."""
        return self._fleet.agent(name).is_draining

    def ready(self, name: str, boot: int) -> None:
        """The welcome is on its way: from now on the agent may get work, unless a newer boot has come meanwhile."""
        agent = self._fleet.agent(name)
        if agent.boot != boot:
            return
        if agent.state is AgentState.OFFLINE:
            event = "join_draining" if agent.is_draining else "join_busy" if agent.held else "join"
            self._lifecycle.fire(agent, event)
        self._fleet.changed(agent)
        self._store.wake()

    def behind(self, name: str, boot: int, *, is_behind: bool) -> None:
        """So much of what it was sent has not arrived that more would only wait on the line, or no longer so much."""
        agent = self._fleet.agents.get(name)
        if agent is not None and agent.boot == boot and agent.is_behind is not is_behind:
            agent.is_behind = is_behind
            self._fleet.freed(agent)
            self._store.wake()

    def _older(self, agent: Agent, hello: messages.Hello, challenged_at: float | None) -> Conflict:
        """What to answer a start that is older than the newest one.

        A process that signs what it was asked after a newer start of its state directory came has outlived it, which
        the lock of that directory allows on no machine: there are two directories. One that was asked before may have
        ended since.
        """
        if challenged_at is None:
            self._alarm(agent, hello, "evicted")
            return Evicted(hello.sidecar, hello.boot, agent.boot)
        if challenged_at <= agent.boot_at:
            return Overtaken(hello.sidecar, hello.dial, hello.dial)
        return self.cloned(hello)

    def cloned(self, hello: messages.Hello) -> Cloned:
        """A sidecar that is at work and this one hold the same key: neither gets work until a person decides."""
        agent = self._fleet.agent(hello.sidecar)
        answer = Cloned(agent.name, agent.host, agent.boot)
        self._alarm(agent, hello, "turned away, and holds the same key")
        if not agent.quarantine:
            first, second = f"{agent.host} (boot {agent.boot})", f"{hello.host} (boot {hello.boot})"
            agent.quarantine = f"its key is in use on {first} and on {second}"
            self._fleet.changed(agent)
            log.error("agent_quarantined", agent=agent.name, why=agent.quarantine, next="a person releases it")
            event = self._event(agent, EventKind.AGENT_QUARANTINED, why=agent.quarantine)
            self._store.post(MarkAgent(agent.name, event, quarantine=agent.quarantine))
        return answer

    async def release(self, name: str, by: str) -> AgentView:
        """Give an agent work again that was in quarantine: the copy is gone. Once more changes nothing.

        Which of the two starts was the right one is forgotten, unless one is connected: that one stays.

        Raises:
            NotFound: there is no such agent.
        """
        agent = self._known(name)
        if agent.quarantine:
            agent.released(is_away=agent.state is AgentState.OFFLINE and not self.is_elsewhere(agent))
            self._fleet.changed(agent)
            event = self._event(agent, EventKind.AGENT_RELEASED, by=by)
            await self._store.commit(MarkAgent(name, event, quarantine=""))
            self._store.wake()
        return self._view(agent)

    def _alarm(self, agent: Agent, hello: messages.Hello, what: str) -> None:
        """Two sidecars use one name, which only a person can put right. Told once a case, however often it knocks."""
        text = f"another sidecar of this name, on {hello.host} (boot {hello.boot}), was {what}"
        now_ms = self._clock.now_ms()
        if agent.alarm == text and now_ms - agent.alarm_ms < ALARM_MS:
            return
        agent.alarm, agent.alarm_ms = text, now_ms
        facts = {"host": hello.host, "boot": hello.boot, "was": what, "kept_host": agent.host, "kept_boot": agent.boot}
        log.error("agent_cloned", agent=agent.name, **facts, next="give one of the two another --name")
        self._store.post(Record(self._event(agent, EventKind.AGENT_CLONED, **facts)))

    async def _known_tasks(self, inventory: Iterable[messages.HeldAttempt]) -> frozenset[str]:
        """Of the tasks that the agent lists and nobody here holds: those that there are."""
        asked = {item.attempt.task for item in inventory} - self._fleet.held.keys()
        return frozenset(row.id for row in await self._store.summaries(sorted(asked))) if asked else frozenset()

    def _reconcile(
        self,
        agent: Agent,
        inventory: Iterable[messages.HeldAttempt],
        ended: frozenset[str],
        *,
        is_new_boot: bool,
    ) -> tuple[tuple[messages.Verdict, ...], list[Held]]:
        verdicts = []
        listed: dict[str, messages.HeldAttempt] = {}
        until = self._clock.monotonic() + self._lease_s
        for item in inventory:
            task, epoch = item.attempt.task, item.attempt.epoch
            held = agent.held.get(task)
            if held is not None and held.is_committed and (held.epoch, held.boot) == (epoch, item.attempt.boot):
                listed[task] = item
                held.lease_until = until
                verdicts.append(messages.Verdict(attempt=item.attempt, verdict="keep"))
            else:
                known = task in self._fleet.held or task in ended
                verdicts.append(messages.Verdict(attempt=item.attempt, verdict="stop" if known else "unknown"))
                if item.attempt.boot == agent.boot:
                    self._outlived(item.attempt)
        again = []
        for held in list(agent.held.values()):
            if held.task in listed or not held.is_committed:
                continue
            if held.state is AttemptState.ASSIGNED and not is_new_boot and held.boot == agent.boot:
                held.lease_until = until
                again.append(held)
            else:
                self._lose(held, "its sidecar came back without it")
                if held.state is AttemptState.ASSIGNED or held.boot == agent.boot:
                    # It never began, or its sidecar has outlived it: an attempt is journalled before it starts.
                    self._outlived(AttemptId(held.agent, held.boot, held.task, held.epoch))
        return tuple(verdicts), again

    def heartbeat(self, agent_name: str, heartbeat: messages.Heartbeat) -> list[AttemptId]:
        """A sidecar lives; returns the attempts that it names and must stop."""
        agent = self._fleet.agent(agent_name)
        if heartbeat.boot != agent.boot:
            return []  # of an older boot, whose socket is about to be cut
        agent.last_seen_ms = self._clock.now_ms()
        self._on_heartbeat(agent, heartbeat)
        was_leaving, is_changed = agent.is_leaving, agent.is_leaving is not heartbeat.draining
        agent.is_leaving = heartbeat.draining
        if heartbeat.endpoints is not None and heartbeat.endpoints != agent.endpoints:
            agent.endpoints, is_changed = heartbeat.endpoints, True
        if heartbeat.capabilities is not None and (capabilities := same(heartbeat.capabilities)) != agent.capabilities:
            agent.capabilities, is_changed = capabilities, True
        if is_changed:
            self._fleet.changed(agent)
            self._store.wake()
        if was_leaving is not agent.is_leaving:
            kind = EventKind.AGENT_LEAVING if agent.is_leaving else EventKind.AGENT_RESUMED
            event = self._event(agent, kind, held=len(agent.held))
            self._store.post(MarkAgent(agent.name, event, leaving=agent.is_leaving))
        until = self._clock.monotonic() + self._lease_s
        named = ((item.attempt.task, item.attempt.epoch) for item in heartbeat.attempts)
        stale = set(self._fleet.renew(agent, named, until))
        if agent.is_behind:
            # It lives, its line is narrow: what it cannot name because it is still on its way stays its own.
            for held in agent.held.values():
                if held.state is AttemptState.ASSIGNED:
                    held.lease_until = until
        return [
            item.attempt
            for item in heartbeat.attempts
            if (item.attempt.task, item.attempt.epoch) in stale and item.state not in _ENDED
        ]

    def gone(self, name: str, boot: int) -> None:
        """The sidecar's socket closed: no new work for it; what it holds stays its own until the leases end."""
        agent = self._fleet.agent(name)
        if agent.boot != boot or agent.state is AgentState.OFFLINE:
            return
        self._lifecycle.fire(agent, "lose")
        self._fleet.changed(agent)
        log.warning("agent_lost", agent=name, held=len(agent.held), next="waits for it, then for the leases")
        event = self._event(agent, EventKind.AGENT_LOST, held=len(agent.held), hub=self._hub)
        agent.hub = None
        self._store.post(LeaveAgent(at_ms=event.at_ms, name=name, seat=agent.seat, hub=self._hub, event=event))

    # --- people -------------------------------------------------------------------------------------------------------

    async def drain(self, name: str, by: str) -> AgentView:
        """Give the agent no new work; what it has it finishes.

        Raises:
            NotFound: there is no such agent.
        """
        agent = self._known(name)
        agent.is_draining = True
        self._lifecycle.fire(agent, "drain")
        self._fleet.changed(agent)
        event = self._event(agent, EventKind.AGENT_DRAINING, by=by)
        await self._store.commit(MarkAgent(name, event, draining=True))
        self._send(agent.name, agent.boot, messages.Drain(on=True))
        return self._view(agent)

    async def resume(self, name: str, by: str) -> AgentView:
        """Give the agent work again.

        Raises:
            NotFound: there is no such agent.
        """
        agent = self._known(name)
        # Told before it can be given anything: what comes behind it on the link finds it willing.
        self._send(agent.name, agent.boot, messages.Drain(on=False))
        agent.is_draining = False
        self._lifecycle.fire(agent, "resume_busy" if agent.held else "resume")
        self._fleet.changed(agent)
        event = self._event(agent, EventKind.AGENT_RESUMED, by=by)
        await self._store.commit(MarkAgent(name, event, draining=False))
        self._store.wake()
        return self._view(agent)

    async def remove(self, name: str, by: str) -> None:
        """Forget an agent that is gone for good. One that introduces itself again is simply new.

        Raises:
            NotFound: there is no such agent.
            Conflict: it is connected, has work in hand, or is in quarantine.
        """
        agent = self._known(name)
        if agent.state is not AgentState.OFFLINE or agent.held:
            doing = f"has {len(agent.held)} attempts in hand" if agent.held else f"is {agent.state.value}"
            raise Conflict(f"agent {name} {doing}; stop its sidecar and wait for that")
        event = self._event(agent, EventKind.AGENT_REMOVED, by=by)
        await self._store.commit(RemoveAgent(at_ms=self._clock.now_ms(), name=name, event=event))
        if agent.state is AgentState.OFFLINE:
            self._fleet.forget(name)
        log.info("agent_removed", agent=name, by=by)

    def agents(self) -> AgentList:
        """All agents, by name."""
        return AgentList(agents=tuple(self._view(a) for _, a in sorted(self._fleet.agents.items())))

    def agent(self, name: str) -> AgentView:
        """One agent.

        Raises:
            NotFound: there is no such agent.
        """
        return self._view(self._known(name))

    def _view(self, agent: Agent) -> AgentView:
        hubs = self._hubs()
        return agent_view(agent, hubs.get(agent.hub or 0, ""), is_elsewhere=self.is_elsewhere(agent))

    def is_elsewhere(self, agent: Agent) -> bool:
        """Whether the agent is at another hub that lives."""
        return agent.hub in self._hubs() and agent.hub != self._hub

    def _known(self, name: str) -> Agent:
        agent = self._fleet.agents.get(name)
        if agent is None:
            raise NotFound("agent", name)
        return agent

    def _outlived(self, attempt: AttemptId) -> None:
        at_ms, boot = self._clock.now_ms(), attempt.boot
        exonerate = Exonerate(at_ms=at_ms, task=attempt.task, epoch=attempt.epoch, agent=attempt.sidecar, boot=boot)
        self._store.post(exonerate)

    def _event(self, agent: Agent, kind: EventKind, **facts: object) -> Event:
        return Event(kind=kind, at_ms=self._clock.now_ms(), agent=agent.name, facts=facts)

"""Give queued tasks to agents: run the plan whenever a batch is about to be sealed.

Claims join the batch that makes them possible: the submission that finds an idle agent, the report that frees a slot.
An assignment leaves only after its claim is durable. A claim that the store refuses (the task was cancelled, or was
never stored) frees its slot again.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

import structlog
from msgspec import Raw
from msgspec.structs import replace

from hub.core.advice import Advisor
from hub.core.agent import Held
from hub.core.board import find, take_turn
from hub.core.charging import PLAIN_CAP, Charging, granted
from hub.core.decision import candidates, is_lower, why
from hub.core.ending import AgentPort
from hub.core.fleet import Fleet
from hub.core.loads import load_plan
from hub.core.matching import Matcher
from hub.core.routing import Allowance, Placement, Requirements, Way, decode_placement, encode_placement, routing_of
from hub.core.scheduling import Assignment, Several, decisions
from hub.core.shares import Shares
from hub.core.speeds import Speeds
from hub.core.terms import Rates
from hub.core.window import ClassQueue, Window
from hub.store.budget_changes import Spent, Unfunded
from hub.store.changes import Buried, Claim, Claimed, Outcome, ReadClass, Ready, Record, Unwilling
from hub.store.climbing import REVIEW
from hub.store.many_changes import Many
from hub.store.rows import moment
from hub.store.store import Store
from protocol import codec
from protocol.clock import Clock
from protocol.errors import AgentComError
from protocol.events import Event, EventKind
from protocol.lean import lean_routing
from protocol.loads import LoadPlan
from protocol.log_levels import LogLevel
from protocol.logs import NUMBERS, channel
from protocol.messages import Assign, Carry, Proof
from protocol.model import AttemptId, Routing, Strategy, TaskState
from protocol.prices import Price

log = structlog.get_logger(__name__)
_channel: Final = channel(__name__)
_DEBUG: Final = NUMBERS[LogLevel.DEBUG]
_TRIVIAL: Final = Strategy.TRIVIAL
"""Asked about with every task; the members of an enumeration are slow to find."""
MAX_TOLD: Final = 256
"""Routings that are remembered because the next tasks may be placed alike."""
MOST_CLAIMS: Final = 500
"""Claims in one change: as many as one transaction holds."""
_Words = tuple[bytes, str, str, str, str, str]
_Given = tuple[Held, Placement, Strategy]
"""An attempt that is claimed, why there, and the strategy that was wanted."""


class Lines(AgentPort, Protocol):
    """How to reach sidecars; the gateway is one."""

    def send_all(self, agent: str, boot: int, messages: Sequence[Assign]) -> None:
        """Send these in their order, as :meth:`send` does."""
        ...


class Dispatch:
    """The loop that feeds the scheduler; :meth:`run` is the store's ``on_seal``."""

    def __init__(  # noqa: PLR0913 - the parts it is made of
        self,
        store: Store,
        fleet: Fleet,
        window: Window,
        agents: Lines,
        clock: Clock,
        *,
        lease_s: float,
        hub: int = 0,
        may_grant: Callable[[], bool] = lambda: True,
        speeds: Speeds | None = None,
        rates: Rates = Rates(),  # noqa: B008 - frozen
        advisor: Advisor | None = None,
        charging: Charging | None = None,
        on_planned: Callable[[int, float], None] = lambda _claims, _took_s: None,
        on_ended: Callable[[TaskState], None] = lambda _state: None,
        on_routed: Callable[[Strategy, int], None] = lambda _used, _times: None,
    ) -> None:
        self._store, self._fleet, self._window, self._agents = store, fleet, window, agents
        self._clock, self._lease_s, self._hub = clock, lease_s, hub
        self._may_grant, self._on_planned, self._on_ended = may_grant, on_planned, on_ended
        self._advisor, self._speeds, self._rates = advisor, speeds or Speeds(), rates
        self.matcher = Matcher(fleet, is_wide=advisor is not None and advisor.is_on)
        self._shares, self._on_routed = Shares(), on_routed
        self._charging = charging or Charging()
        self._alike_ms, self._alike = 0, dict[tuple[int, int, int], tuple[Placement, bytes, Assignment]]()
        self.trace: Callable[[str, int, str], str] = lambda _task, _epoch, given: given
        """The ``traceparent`` that an attempt is told, by the one that its task has come with."""
        self._told: dict[tuple[bytes, int], tuple[Placement, Routing]] = {}
        self._worded: dict[_Words, Routing] = {}

    def run(self) -> None:
        """Post a claim for everything that can start now, and a refill for every class that has run dry."""
        # Nearly all commits of a quiet hub plan nothing.
        if self._window.has_tasks and self._fleet.has_free_slot and self._may_grant():
            self._plan()
        if (dry := self._window.dry()) and self._may_grant():
            for queue in dry:
                self._refill(queue)

    def _plan(self) -> None:
        began = self._clock.monotonic()
        claims: list[Claim] = []
        given: list[_Given] = []
        budgets = self._may_spend if self._charging.is_on else None
        parts = self._window, self._fleet, self.matcher, self._speeds, began, self._rates, self._shares, budgets
        now_ms = self._clock.now_ms()
        for decided in decisions(*parts):
            if isinstance(decided, Several):
                self._claim_alike(decided, now_ms, began, claims, given)
                continue
            claim, attempt = self._claim(decided, now_ms, began)
            self._fleet.take(attempt[0])
            claims.append(claim)
            given.append(attempt)
        for first in range(0, len(claims), MOST_CLAIMS):
            some = slice(first, first + MOST_CLAIMS)
            self._store.post(Many(claims[some]), partial(self._claimed, given[some]))
        if claims:
            self._on_planned(len(claims), self._clock.monotonic() - began)

    def _may_spend(self, requirements: Requirements, way: Way, task: str) -> bool:
        return self._charging.may_spend(requirements, way, self._clock.now_ms(), task)

    def _claim_alike(self, several: Several, now_ms: int, now: float, claims: list[Claim], given: list[_Given]) -> None:
        """Claim tasks of a class, of which those that one agent gets differ in nothing but their ids."""
        take, queue = self._fleet.take, several.queue
        models: dict[str, tuple[Claim, _Given]] = {}
        for place, (agent, way) in several.given:
            if (model := models.get(agent.name)) is None:
                like = Assignment(queue, place, agent, way, several.match)
                claim, attempt = models[agent.name] = self._claim(like, now_ms, now)
            else:
                claim, (held, placement, first) = model
                claim, attempt = replace(claim, task=place[1]), (replace(held, task=place[1]), placement, first)
            take(attempt[0])
            claims.append(claim)
            given.append(attempt)

    def _claim(self, chosen: Assignment, now_ms: int, now: float) -> tuple[Claim, _Given]:
        _, task = chosen.place
        agent, way, queue = chosen.agent, chosen.way, chosen.queue
        requirements = queue.requirements
        charge, allowance = None, None
        if self._charging.is_on:
            charge, allowance = self._charging.charge(requirements, way, now_ms, task)
            self._charging.plan(task, charge)
        placement, kept = self._placed(chosen, now_ms, allowance)
        # The epoch is known after the commit; until then nobody else can hold this task.
        held = Held(
            task, 0, agent.name, agent.boot, now + self._lease_s, alone=requirements.alone, kind=queue.kind,
            repo=requirements.repo, is_charged=charge is not None, is_proof=requirements.proof is not None,
        )  # fmt: skip
        if chosen.weighed is not None:
            server, report, _ = find(self._fleet, agent, way.endpoint)
            take_turn(held, chosen.weighed, server, now, self._fleet.prefixes)
            if report.rpm or report.tpm:
                self._fleet.quotas.take(server, task, chosen.weighed.tokens)
        claim = Claim(
            at_ms=now_ms,
            task=task,
            agent=agent.name,
            host=agent.host,
            boot=agent.boot,
            placement=kept,
            class_text=queue.text,
            hub=self._hub,
            carries=requirements.rung is not None or requirements.returned,
            charge=charge,
            own_micro=(requirements.cap or PLAIN_CAP)[1],
            model=placement.model,
        )
        return claim, (held, placement, self._first(chosen))

    def _price(self, way: Way) -> Price | None:
        if way.strategy is Strategy.TRIVIAL:
            return None
        return self._charging.prices.of(way.model, is_local=way.strategy is Strategy.LOCAL_LLM)

    def _placed(self, chosen: Assignment, now_ms: int, allowance: Allowance | None) -> tuple[Placement, bytes]:
        """The decision, and as it is kept. Those of one moment that weighed nothing are alike, and made once."""
        is_plain = chosen.weighed is None and allowance is None and chosen.way.strategy is _TRIVIAL
        if now_ms != self._alike_ms:
            self._alike_ms, self._alike = now_ms, {}
        # By identity: the ways and classes are slow to hash, and stand behind their numbers.
        key = id(chosen.way), id(chosen.queue), id(chosen.match)
        if is_plain and (found := self._alike.get(key)) is not None:
            return found[0], found[1]
        requirements, way = chosen.queue.requirements, chosen.way
        placement = Placement(
            strategy=way.strategy,
            executor=requirements.executor,
            agent=chosen.agent.name,
            endpoint=way.endpoint,
            model=way.model,
            reason=why(chosen),
            candidates=candidates(chosen),
            at_ms=now_ms,
            load=None if is_plain else self._load(chosen),
            rung=requirements.rung,
            learnt=self._advisor.choice(requirements, way) if chosen.weighed and self._advisor else None,
            allowance=allowance,
            price=None if is_plain else self._price(way),
            seen=chosen.seen,
        )
        kept = encode_placement(placement)
        if is_plain:
            self._alike[key] = placement, kept, chosen
        return placement, kept

    def _routing(self, tier: bytes, placement: Placement) -> Routing:
        """What an agent is told of the decision; the same for tasks that were placed alike and look alike."""
        known = self._told.get((tier, id(placement)))
        if known is None or known[0] is not placement:
            if len(self._told) >= MAX_TOLD:
                self._told.clear()
            known = self._told[tier, id(placement)] = placement, self._new_routing(tier, placement)
        return known[1]

    def _new_routing(self, tier: bytes, placement: Placement) -> Routing:
        """As above; decisions of other moments that weighed nothing and have the same words differ in their time."""
        words = tier, placement.executor, placement.agent, placement.model, placement.endpoint, placement.reason
        more = placement.load, placement.learnt, placement.rung, placement.price
        is_plain = placement.strategy is _TRIVIAL and more.count(None) == len(more)
        if is_plain and (known := self._worded.get(words)) is not None:
            return replace(known, at=moment(placement.at_ms))
        found = lean_routing(routing_of(codec.decode_tier(tier), placement, is_whole=False))
        if is_plain:
            if len(self._worded) >= MAX_TOLD:
                self._worded.clear()
            self._worded[words] = found
        return found

    def _load(self, chosen: Assignment) -> LoadPlan | None:
        if chosen.weighed is None:
            return None
        return load_plan(chosen.weighed, chosen.queue.requirements, self._window, self._fleet)

    def _first(self, chosen: Assignment) -> Strategy:
        """The strategy that was wanted: the first of the chain, unless what was learnt chooses among all of them."""
        requirements = chosen.queue.requirements
        is_free = requirements.is_open and self._advisor is not None and self._advisor.is_on
        return chosen.way.strategy if is_free else requirements.strategies[0]

    def _tell(self, held: Held, placement: Placement, first: Strategy) -> None:
        """Every decision in a line of the log; one that was not the first choice is an event too."""
        is_plain = placement.strategy is _TRIVIAL
        if not is_plain or _channel.level <= _DEBUG:
            line = log.debug if is_plain else log.info
            line(
                "task_assigned",
                task=held.task,
                epoch=held.epoch,
                agent=held.agent,
                strategy=placement.strategy.value,
                model=placement.model,
                endpoint=placement.endpoint,
                reason=placement.reason,
            )
        if placement.strategy is first:
            return
        facts = {
            "wanted": first.value,
            "used": placement.strategy.value,
            "lower": is_lower(placement.strategy, first),
            "reason": placement.reason,
        }
        log.warning("task_fell_back", task=held.task, agent=held.agent, **facts)
        kind, at_ms = EventKind.TASK_FELL_BACK, self._clock.now_ms()
        told = Event(kind=kind, at_ms=at_ms, task=held.task, agent=held.agent, epoch=held.epoch, facts=facts)
        self._store.post(Record(told))

    def again(
        self,
        held: Held,
        spec: bytes,
        tier: bytes,
        placement: bytes,
        carry: Carry | None = None,
        spent_usd: float = 0.0,
        proof: Proof | None = None,
    ) -> None:
        """Send an assignment again that its agent has never accepted (the hub was restarted in between)."""
        placed = decode_placement(placement)
        is_wanted = placed.rung or (carry is not None and any(found.type == REVIEW for found in carry.findings))
        routing = self._routing(tier, placed)
        assign = self._assign(held, spec, routing, placed, carry if is_wanted else None, spent_usd, proof)
        self._agents.send(held.agent, held.boot, assign)

    def _claimed(self, given: Sequence[_Given], outcome: Outcome) -> None:
        """The claims of a plan have their outcomes: what is granted leaves, for each agent in one go."""
        outcomes = [outcome] * len(given) if isinstance(outcome, AgentComError) else outcome
        lease_until = self._clock.monotonic() + self._lease_s  # the disk's time is not the agent's
        assigns: dict[tuple[str, int], list[Assign]] = {}
        routed: list[Strategy] = []
        last: tuple[bytes, Placement, Routing] | None = None  # tasks that are placed and look alike are told alike
        for (held, placement, first), claimed in zip(given, outcomes, strict=True):
            if type(claimed) is not Claimed:
                self._not_claimed(held, claimed)
                continue
            held.epoch, held.lease_until, held.is_committed = claimed.epoch, lease_until, True
            held.retries, held.infra_failures = claimed.retries, claimed.infra_failures
            held.max_retries = claimed.max_retries
            if held.is_charged:
                self._charging.grant(held.task, held.epoch)
            if last is None or last[1] is not placement or last[0] != claimed.tier:
                last = claimed.tier, placement, self._routing(claimed.tier, placement)
            more = claimed.carry, claimed.spent_usd, claimed.proof
            assign = self._assign(held, claimed.spec, last[2], placement, *more)
            if (found := assigns.get((held.agent, held.boot))) is None:
                found = assigns[held.agent, held.boot] = []
            found.append(assign)
            routed.append(placement.strategy)
            if placement.strategy is not _TRIVIAL or first is not _TRIVIAL or _channel.level <= _DEBUG:
                self._tell(held, placement, first)
        for (agent, boot), messages in assigns.items():
            self._agents.send_all(agent, boot, messages)
        for used in dict.fromkeys(routed):
            self._on_routed(used, routed.count(used))

    def _not_claimed(self, held: Held, outcome: Outcome) -> None:
        self._fleet.release(held.task, held.epoch)
        self._charging.drop(held.task)
        if isinstance(outcome, Unwilling | Buried | Unfunded | Spent | Ready):
            self._refused(held, outcome)
            return
        if not isinstance(outcome, AgentComError):
            raise TypeError(outcome)
        log.info("claim_refused", task=held.task, agent=held.agent, why=str(outcome))
        self._store.wake()

    def _refused(self, held: Held, outcome: Unwilling | Buried | Unfunded | Spent | Ready) -> None:
        """The claim found out what nobody here had known."""
        if isinstance(outcome, Buried):
            log.error("task_buried", task=held.task, deaths=len(outcome.deaths), why=outcome.reason)
            self._on_ended(TaskState.DEAD)
        elif isinstance(outcome, Spent):
            log.info("task_spent", task=held.task, why=outcome.reason)
            self._on_ended(TaskState.FAILED)
        elif isinstance(outcome, Unfunded):
            self._charging.refuse()
            self._window.add(outcome.class_text, outcome.place)
            return  # a look at the purses comes before the next claim
        elif isinstance(outcome, Ready):
            log.info("claim_refused", task=held.task, agent=held.agent, why="it waits in another class by now")
            self._window.add(outcome.class_text, outcome.place)
        else:
            log.info("claim_refused", task=held.task, agent=held.agent, why="the agent takes no new work")
            agent = self._fleet.agents[held.agent]
            if outcome.elsewhere:
                agent.fire("lose")
            agent.is_leaving = agent.is_leaving or outcome.leaving
            if outcome.draining and not agent.is_draining:
                agent.is_draining = True
                agent.fire("drain")
            self._fleet.changed(agent)
            self._window.add(outcome.ready.class_text, outcome.ready.place)
        self._store.wake()

    def _assign(
        self,
        held: Held,
        spec: bytes,
        routing: Routing,
        placement: Placement,
        carry: Carry | None,
        spent_usd: float = 0.0,
        proof: Proof | None = None,
    ) -> Assign:
        by_hand = placement.endpoint and next((e for e in self._fleet.endpoints if e.id == placement.endpoint), None)
        if spent_usd or placement.allowance is not None:
            carried_usd = (carry.usage.cost_usd or 0.0) if carry is not None else 0.0
            if budget := granted(codec.decode_spec(spec), placement.allowance, spent_usd, carried_usd):
                spec = codec.with_budget(spec, budget)
        spec, given = codec.for_sidecar(spec)
        return Assign(
            attempt=AttemptId(held.agent, held.boot, held.task, held.epoch),
            spec=Raw(spec),
            routing=routing,
            lease_s=self._lease_s,
            endpoint=by_hand or None,
            carry=carry,
            proof=proof,
            trace=self.trace(held.task, held.epoch, given),
        )

    def _refill(self, queue: ClassQueue) -> None:
        queue.is_filling = True
        left_out = queue.left_out
        limit = self._window.limit
        change = ReadClass(at_ms=self._clock.now_ms(), class_text=queue.text, limit=limit)

        def filled(outcome: Outcome) -> None:
            if isinstance(outcome, AgentComError):
                queue.is_filling = False
                return
            queue.fill(outcome, has_more=len(outcome) == limit, left_out=left_out)
            self._store.wake()

        self._store.post(change, filled)

"""Work whose answers are checked: no request names a model, and what fails climbs, as in a hub.

The decisions are those of production: the chains of the tiers, the ladder, what was learnt, the plan. Whether an answer
passes is drawn: each job has a difficulty between 0 and 1, and a model passes if its success for the tier is above
that. So whoever is stronger passes all that a weaker one passes, and asking the same model again is no use unless with
more effort. That is hard on rules that try cheap models first: no job is won by luck.

``always_hosted`` is the rule to compare with: everything goes to the first hosted model, and once more with more effort
if it fails.
"""

from collections.abc import Iterable, Sequence
from random import Random
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from hub.core.advice import Advisor
from hub.core.ladder import Climber, Step, climb, offers_of
from hub.core.outcomes import Outcome, Outcomes, stage_of
from hub.core.routing import DEFAULT_CHAINS, Requirements, class_on, context_bucket, requirements_of
from hub.core.scheduling import Assignment
from hub.core.terms import Rates
from hub.simulate.engine import Machine, Request
from hub.simulate.fleet import ChecksPlan, FleetPlan, ModelPlan
from hub.simulate.ours import ENDPOINT, EPOCH_MS, Ours
from hub.simulate.trace import Job
from protocol.choice import SECONDS_PER_USD, Effort, LearningMode, Rung
from protocol.model import EndpointKind, EndpointReport, ModelReport, Tier

ALWAYS_HOSTED: Final = "always_hosted"


class Checking(Struct, frozen=True, kw_only=True):
    """What becomes of what the checks teach, and how many seconds a dollar counts as: settings of a hub."""

    learning: LearningMode = LearningMode.SHADOW
    usd_s: float = SECONDS_PER_USD


class Lots:
    """How hard each job is: the same for every rule."""

    def __init__(self, checks: ChecksPlan, seed: int) -> None:
        self._checks, self._seed = checks, seed

    def tier(self, job: Job) -> Tier:
        """What the job counts as."""
        tiers = self._checks.tiers
        return Tier(self._source("tier", job).choices([*tiers], [*tiers.values()])[0])

    def passes(self, job: Job, model: ModelPlan, effort: Effort) -> bool:
        """Whether an answer of the model passes the checks of the job."""
        success = model.passes(self.tier(job))
        if effort is Effort.HIGH:
            success += self._checks.effort * (1.0 - success)
        return self._source("difficulty", job).random() < success

    def attempt(self, job: Job, model: ModelPlan, effort: Effort) -> Job:
        """The job as this model does it."""
        times = self._checks.effort_tokens if effort is Effort.HIGH else 1.0
        good = self.passes(job, model, effort)
        return replace(job, model=model, output_tokens=round(times * job.output_tokens), is_good=good)

    def _source(self, about: str, job: Job) -> Random:
        return Random(f"{self._seed}/{about}/{job.number}")


class AlwaysHosted:
    """Everything goes to one hosted model, with more effort if that fails."""

    def __init__(self, fleet: FleetPlan, seed: int) -> None:
        self._lots, self._model = Lots(fleet.checks, seed), fleet.hosted[0]
        self._begun: set[int] = set()

    def came(self, request: Request, machines: Sequence[Machine], now: float) -> Iterable[tuple[Request, Machine]]:
        """See :class:`hub.simulate.engine.Rule`."""
        del now
        effort = Effort.HIGH if request.job.number in self._begun else Effort.NORMAL
        self._begun.add(request.job.number)
        attempt = Request(self._lots.attempt(request.job, self._model, effort))
        return [(attempt, next(each for each in machines if each.plan.name == self._model.name))]

    def ended(
        self, request: Request, machine: Machine, machines: Sequence[Machine], now: float
    ) -> Iterable[tuple[Request, Machine]]:
        """See :class:`hub.simulate.engine.Rule`."""
        del machine
        if request.job.is_good or request.job.number not in self._begun:
            return ()
        again = self.came(request, machines, now)
        self._begun.discard(request.job.number)
        return again


class Checked(Ours):
    """The plan, the ladder and what was learnt.

    Args:
        fleet: with hosted models.
        seed: of the difficulties.
        checking: as the settings of a hub.
    """

    def __init__(self, fleet: FleetPlan, seed: int, checking: Checking) -> None:
        super().__init__(fleet, is_wide=checking.learning is LearningMode.ON)
        self._lots, self._outcomes, self._now_ms = Lots(fleet.checks, seed), Outcomes(), EPOCH_MS
        self._by_name: dict[str, ModelPlan] = {each.name: each for each in (*fleet.models, *fleet.hosted)}
        self._fleet.endpoints = tuple(
            EndpointReport(
                id=each.name,
                kind=EndpointKind.ANTHROPIC,
                url="",
                local=False,
                models=(ModelReport(name=each.name),),
                parallel=each.parallel,
            )
            for each in fleet.hosted
        )
        self._advisor = Advisor(
            self._fleet,
            self._outcomes,
            DEFAULT_CHAINS,
            now_ms=lambda: self._now_ms,
            mode=checking.learning,
            usd_s=checking.usd_s,
        )
        self._rates = Rates(s_per_usd=checking.usd_s, risk=self._advisor.risk_s)
        self._texts: dict[int, str] = {}
        self._jobs: dict[int, Job] = {}
        self._tried: dict[int, list[tuple[str, Effort]]] = {}

    def came(self, request: Request, machines: Sequence[Machine], now: float) -> Iterable[tuple[Request, Machine]]:
        """See :class:`hub.simulate.engine.Rule`."""
        job = request.job
        tier = self._lots.tier(job)
        self._jobs[job.number], self._tried[job.number] = job, []
        self._texts[job.number] = Requirements(
            executor="chat",
            strategies=DEFAULT_CHAINS[tier],
            context=context_bucket(job.input_tokens),
            topic=f"chat/{tier}/any",
        ).text
        return self._queued(job, machines, now)

    def ended(
        self, request: Request, machine: Machine, machines: Sequence[Machine], now: float
    ) -> Iterable[tuple[Request, Machine]]:
        """See :class:`hub.simulate.engine.Rule`."""
        job, text = request.job, self._texts[request.job.number]
        task, agent = self._placed.pop(request)
        held = self._fleet.release(task, 1)
        requirements, is_hosted = requirements_of(text), machine.plan.name != agent
        self._learn(request, held, machine.plan.name if is_hosted else ENDPOINT, requirements.kind, now)
        usd = machine.plan.usd(request.ended_at - request.begun_at, job.input_tokens, job.output_tokens)
        if is_hosted:
            self._speeds.paid(("", machine.plan.name), job.model.name, usd, (job.input_tokens, job.output_tokens))
        self._teach(request, requirements, usd if is_hosted else 0.0)
        if not job.is_good and (step := self._step(job, requirements)) is not None:
            self._texts[job.number] = class_on(text, step.rung, step.strategy)
            return self._queued(self._jobs[job.number], machines, now)
        return self._planned(machines, now)

    def _queued(self, job: Job, machines: Sequence[Machine], now: float) -> Iterable[tuple[Request, Machine]]:
        self._now_ms = EPOCH_MS + int(now * 1000)
        self._queue(Request(job), self._texts[job.number])
        return self._planned(machines, now)

    def _placement(self, chosen: Assignment, request: Request) -> tuple[Request, str]:
        requirements, model = chosen.queue.requirements, self._by_name[chosen.way.model]
        self._advisor.choice(requirements, chosen.way)
        effort = requirements.rung.effort if requirements.rung else Effort.NORMAL
        self._tried[request.job.number].append((model.name, effort))
        attempt = Request(self._lots.attempt(request.job, model, effort))
        return attempt, chosen.agent.name if chosen.way.endpoint == ENDPOINT else chosen.way.endpoint

    def _teach(self, request: Request, requirements: Requirements, usd: float) -> None:
        job = request.job
        outcome = Outcome(
            passed=job.is_good,
            seconds=request.ended_at - request.begun_at,
            usd=usd,
            tokens=job.input_tokens + job.output_tokens,
        )
        was = self._outcomes.record(requirements.topic, job.model.name, stage_of(requirements.rung))
        self._outcomes.put(was.plus(outcome, self._now_ms))

    def _step(self, job: Job, requirements: Requirements) -> Step | None:
        rung: Rung | None = requirements.rung
        climber = Climber(
            tier=self._lots.tier(job),
            tried=tuple(self._tried[job.number]),
            climbs=rung.number if rung else 0,
        )
        step = climb(climber, DEFAULT_CHAINS, offers_of(self._fleet))
        return step if isinstance(step, Step) else None

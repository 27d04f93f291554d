"""The verbs of a task that climbs: a failed attempt ends, and its task goes on from the next rung.

Which rung that is follows from the attempts of the task, which are read in the transaction that ends the last of them:
so it is right after a restart, and whichever hub the attempts were at. The decision is ``hub/core/ladder.py``. The same
for every database.
"""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from hub.core.ladder import Climber, Ladder, Step, climb
from hub.core.policy import after_failure
from hub.core.routing import PROOF, Placement, class_on, decode_placement, requirements_of
from hub.store import changes as c
from hub.store import records
from hub.store.drafts import Draft
from hub.store.review_changes import AGAIN, ReviewRow
from hub.store.store import AttemptRow
from hub.store.verbs import Verbs
from protocol import codec
from protocol.choice import Effort
from protocol.events import EventKind
from protocol.limits import MAX_FINDING_BYTES
from protocol.messages import Carry
from protocol.model import AttemptId, AttemptState, FailureClass, Finding, Strategy, TaskResult, TaskState, Usage

REVIEW: Final = "review"
"""Name and type of the finding that tells what a person has said."""
SHOWN_CHARS: Final = 3_000
"""Of each text that is carried: its end, where the reason stands."""


class Climbing(Verbs):
    """All verbs; those that end and begin attempts know of the ladder."""

    async def _finish(self, change: c.Finish) -> c.Finished:
        if (refused := await self._about_other_checks(change)) is not None:
            return replace(await super()._finish(refused), next=refused.next, refused=True)
        if change.ladder is not None:
            await self._write()
            change = await self._on_the_ladder(change, change.ladder)
        finished = await super()._finish(change)
        if change.step is None:
            return finished
        rung = change.step.rung
        facts = {"number": rung.number, "tier": rung.tier, "model": rung.model, "effort": rung.effort}
        self._tell(EventKind.TASK_CLIMBED, change.at_ms, change.task, None, change.epoch, **facts, why=change.step.why)
        return replace(finished, next=change.next, step=change.step)

    async def _about_other_checks(self, change: c.Finish) -> c.Finish | None:
        """The change without its result, if that is about other checks than those that are frozen with the task."""
        if not (change.checks or (change.names_checks and change.verified)):
            return None
        draft = await self._held(change)
        await self._write()
        row = await self._row("frozen_checks", change.task)
        if row is None or row[0] in {"", change.checks}:
            return None
        after = after_failure(
            FailureClass.INFRA,
            retries=draft.retries,
            max_retries=draft.max_retries,
            infra_failures=draft.infra_failures,
        )
        return replace(
            change,
            attempt=AttemptState.FAILED,
            next=after.state,
            retries=after.retries,
            infra_failures=after.infra_failures,
            failure=FailureClass.INFRA,
            reason=f"its agent {_ran(change.checks)} those of the task ({row[0][:12]})",
            verified=None,
            is_refused=True,
            ladder=None,
            avoid=f"agent:{draft.agent}",
        )

    async def _class_after(self, change: c.Finish, draft: Draft) -> str:
        text = await super()._class_after(change, draft)
        return text if change.step is None else class_on(text, change.step.rung, change.step.strategy)

    async def _on_the_ladder(self, change: c.Finish, ladder: Ladder) -> c.Finish:
        """The change with what becomes of the task: it is queued again, or ends and says why it does not climb."""
        row, stored = await self._row("task_state", change.task), await self._row("spec", change.task)
        if row is None or row[1] != change.epoch or stored is None or not requirements_of(row[3]).needs_model:
            return change
        spec, tier = codec.decode_spec(bytes(stored[0])), codec.decode_tier(bytes(stored[1]))
        attempts = [records.attempt(found) for found in await self._rows("attempts", change.task)]
        rung = requirements_of(row[3]).rung
        last = codec.decode_result(change.result) if change.result is not None else None
        placements = _tried(attempts, change.epoch)
        climber = Climber(
            tier=tier.effective,
            tried=tuple((each.model, each.rung.effort if each.rung else Effort.NORMAL) for each in placements),
            hosted=frozenset(each.model for each in placements if each.strategy is Strategy.CLOUD_LLM),
            pinned=bool(spec.model),
            escalation=spec.escalation or ladder.ceiling,
            budget=spec.budget,
            spent_usd=(_usage(attempts).cost_usd or 0.0) + (last.usage.cost_usd or 0.0 if last else 0.0),
            climbs=rung.number if rung else 0,
        )
        step = climb(climber, ladder.chains, ladder.offers, ladder.gone)
        if isinstance(step, Step):
            return replace(change, next=TaskState.QUEUED, ready_ms=None, step=step)
        return replace(change, reason=f"{change.reason}; {step}"[:2_000], facts={**change.facts, "ladder": step})

    async def _claim(self, change: c.Claim) -> c.Claimed | c.Unwilling | c.Buried | c.Ready:
        claimed = await super()._claim(change)
        if not change.carries or not isinstance(claimed, c.Claimed):
            return claimed
        await self._write()
        rows = await self._rows("attempts", change.task)
        reviews = [records.review(row) for row in await self._rows("reviews", change.task)]
        return replace(claimed, carry=carry_of([records.attempt(row) for row in rows], reviews))


def _ran(checks: str) -> str:
    return f"ran other checks ({checks[:12]}) than" if checks else "does not say whether the checks that it ran are"


def is_proof_attempt(attempt: AttemptRow) -> bool:
    """Whether an attempt only ran the checks, on what another one had done (``proving.py``)."""
    return decode_placement(attempt.placement).executor == PROOF


def proofs_of(attempts: Sequence[AttemptRow]) -> int:
    """How many of the last attempts were at a proof, of the work of the one before them."""
    number = 0
    while number < len(attempts) and is_proof_attempt(attempts[-1 - number]):
        number += 1
    return number


def _tried(attempts: Sequence[AttemptRow], epoch: int) -> list[Placement]:
    """How the attempts were placed whose work did not pass its checks, the one that ends now last."""
    placements = [
        decode_placement(attempt.placement)
        for attempt in attempts
        if attempt.epoch == epoch or attempt.failure is FailureClass.VERIFY
    ]
    return [placement for placement in placements if placement.executor != PROOF]


def _usage(attempts: Sequence[AttemptRow]) -> Usage:
    used = Usage()
    for attempt in attempts:
        if attempt.result is not None:
            used = used.plus(codec.decode_result(attempt.result).usage)
    return used


def spent_usd(attempts: Sequence[AttemptRow]) -> float:
    """The money that these have used, as far as prices are known."""
    used = (codec.decode_result(attempt.result).usage for attempt in attempts if attempt.result is not None)
    return sum(usage.cost_usd or 0.0 for usage in used)


def carry_of(attempts: Sequence[AttemptRow], reviews: Sequence[ReviewRow] = ()) -> Carry | None:
    """What the last attempt that did not pass its checks has left; ``None``: there is no such attempt.

    What a person has said who has sent it back is the last of its findings. Where its checks passed and another machine
    found that they do not, the findings are those of that machine.
    """
    failed = [n for n, a in enumerate(attempts) if a.failure is FailureClass.VERIFY and a.result is not None]
    if not failed:
        return None
    at = failed[-1]
    proofs = proofs_of(attempts[: at + 1])
    left, judged = attempts[at - proofs], attempts[at].result
    if left.result is None or judged is None:
        return None
    result: TaskResult = codec.decode_result(left.result)
    report = tuple(map(_found_elsewhere, codec.decode_result(judged).report)) if proofs else result.report
    said = [
        Finding(name=REVIEW, type=REVIEW, passed=False, detail=review.reason[:SHOWN_CHARS])
        for review in reviews
        if review.epoch == left.epoch and review.verdict == AGAIN
    ]
    return Carry(
        attempt=AttemptId(left.agent, left.boot, left.task, left.epoch),
        model=decode_placement(left.placement).model,
        iterations=len(result.iterations),
        execution_ok=result.execution_ok,
        findings=(*map(_short, report), *said),
        summary=result.iterations[-1].summary[-SHOWN_CHARS:] if result.iterations else "",
        output=result.output[-MAX_FINDING_BYTES:],
        branch=result.branch,
        commit=result.commit,
        usage=_usage(attempts),
    )


def _found_elsewhere(finding: Finding) -> Finding:
    if finding.passed:
        return finding
    where = "on another machine, where only what was committed is there"
    return replace(finding, detail=f"{where}: {finding.detail or 'failed'}")


def _short(finding: Finding) -> Finding:
    return replace(finding, detail=finding.detail[-SHOWN_CHARS:], output=finding.output[-SHOWN_CHARS:])

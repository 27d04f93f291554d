"""The verbs of the clean room: work that has passed its checks waits for another machine to say so, too.

Whether it has to follows from the task, and is decided in the transaction that ends its attempt, so it is right after a
restart and whichever hub the attempts were at. The attempt that did the work keeps its result; nothing of it counts
before the proof. The rules are ``hub/core/proving.py``.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from hub.core.proving import Rooms, after_silence, is_wanted, proof_class
from hub.core.routing import ProofOf, class_of_work, is_proof, requirements_of
from hub.store import changes as c
from hub.store import records
from hub.store.batches import Statements
from hub.store.climbing import Climbing, is_proof_attempt, proofs_of
from hub.store.drafts import Draft
from hub.store.store import AttemptRow
from protocol import codec
from protocol.choice import CleanRoom
from protocol.errors import StaleTask
from protocol.events import EventKind
from protocol.messages import Proof
from protocol.model import AttemptId, AttemptState, FailureClass, TaskResult, TaskState


class Proving(Climbing):
    """All verbs; those that begin and end attempts know of the clean room."""

    def __init__(self, statements: Statements) -> None:
        super().__init__(statements)
        self._verbs |= {c.SkipProof: self._skip_proof}
        self._daily.add(c.SkipProof)

    async def _claim(self, change: c.Claim) -> c.Claimed | c.Unwilling | c.Buried | c.Ready:
        claimed = await super()._claim(change)
        draft = await self._draft(change.task)
        if not isinstance(claimed, c.Claimed) or draft is None or not is_proof(draft.class_text):
            return claimed
        return replace(claimed, proof=proof_of(await self._attempts(change.task)))

    async def _finish(self, change: c.Finish) -> c.Finished:
        draft = await self._draft(change.task)
        if draft is not None and is_proof(draft.class_text):
            return await self._end_proof(change, await self._held(change))
        if change.rooms is None or change.result is None or change.next is not TaskState.COMPLETED:
            return await super()._finish(change)
        sent_on = await self._sent_on(change, await self._held(change), change.rooms)
        if sent_on is None:
            return await super()._finish(change)
        finished = await super()._finish(sent_on)
        if finished.refused:
            return finished
        self._tell(EventKind.TASK_PROVING, change.at_ms, change.task, None, change.epoch, reason=sent_on.reason)
        return replace(finished, next=TaskState.QUEUED)

    async def _attempts(self, task: str) -> list[AttemptRow]:
        await self._write()
        return [records.attempt(row) for row in await self._rows("attempts", task)]

    # --- the work has passed its own checks ---------------------------------------------------------------------------

    async def _sent_on(self, change: c.Finish, draft: Draft, rooms: Rooms) -> c.Finish | None:
        """The end of an attempt whose task waits for a proof; ``None``: it need not."""
        attempts, stored = await self._attempts(change.task), await self._row("spec", change.task)
        if stored is None or change.result is None:
            return None
        spec, result = codec.decode_spec(bytes(stored[0])), codec.decode_result(change.result)
        host = attempts[-1].host
        if not is_wanted(spec, result, requirements_of(draft.class_text), host, rooms):
            return None
        is_must = (spec.clean_room or rooms.default) is CleanRoom.ALWAYS
        agent = draft.agent or ""
        return replace(
            change,
            next=TaskState.QUEUED,
            execution_ok=None,
            verified=None,
            offers=False,  # not before it counts
            queue=proof_class(draft.class_text, agent, host, is_must=is_must),
            reason=f"its checks passed on {host}, where it was done; another machine has to prove it",
        )

    # --- the proof ----------------------------------------------------------------------------------------------------

    async def _end_proof(self, change: c.Finish, draft: Draft) -> c.Finished:
        attempts = await self._attempts(change.task)
        work, proofs, proof = work_of(attempts), proofs_of(attempts), requirements_of(draft.class_text).proof
        change = replace(change, is_proof=True, offers=False)
        if work is None or proof is None:
            return await self._not_there(change, draft)
        if not proofs:
            change = _done_again(change)
        if await self._about_other_checks(change) is not None:
            return await super()._finish(replace(change, ladder=None))
        if change.failure is None and change.verified:
            reason = f"its checks pass on {attempts[-1].host}, too"
            return await self._proven(change, work, EventKind.TASK_PROVEN, reason)
        if change.failure is FailureClass.VERIFY and change.result is not None:
            return await self._refuted(change, draft, work, attempts[-1].host)
        if change.failure is not None or change.next is not TaskState.WAITING:
            return await self._not_told(change, draft, work, proofs, proof)
        finished = await super()._finish(change)  # in doubt: a person decides
        self._offer(work, change.at_ms)
        return finished

    async def _proven(self, change: c.Finish, work: AttemptRow, kind: EventKind, reason: str) -> c.Finished:
        """The work counts, as its own attempt has delivered it."""
        self._tell(kind, change.at_ms, change.task, None, work.epoch, reason=reason, by=change.epoch)
        done = replace(
            change,
            next=TaskState.COMPLETED,
            execution_ok=True,
            verified=True,
            reason=reason if kind is EventKind.TASK_UNPROVEN else "",
            offers=False,
            ready_ms=None,
            ladder=None,
            facts=_facts(work) | {"proven_by": change.epoch},
        )
        await self._judge_work(work, AttemptState.PASSED, None, reason)
        finished = await super()._finish(done)
        await self._give_back(work)
        self._offer(work, change.at_ms)
        return replace(finished, next=TaskState.COMPLETED)

    async def _refuted(self, change: c.Finish, draft: Draft, work: AttemptRow, host: str) -> c.Finished:
        """The work has failed its checks: it goes on as if its own machine had found that."""
        reason = f"its checks passed on {work.host}, where it was done, and fail on {host}: {change.reason}"[:2_000]
        self._tell(EventKind.TASK_REFUTED, change.at_ms, change.task, None, work.epoch, reason=reason, by=change.epoch)
        await self._judge_work(work, AttemptState.FAILED, FailureClass.VERIFY, reason)
        draft.class_text = class_of_work(draft.class_text)
        self._change(draft)
        told = replace(change, reason=reason, execution_ok=True, verified=False, is_proof=False)
        finished = await super()._finish(told)
        if finished.again is None:
            await self._give_back(work)
        return finished

    async def _not_told(
        self, change: c.Finish, draft: Draft, work: AttemptRow, proofs: int, proof: ProofOf
    ) -> c.Finished:
        """The proof has ended without telling anything about the work."""
        after = after_silence(proofs, is_must=proof.must)
        why = change.reason or "it was stopped"
        if after is TaskState.COMPLETED:
            reason = f"no other machine could tell whether its checks pass: {why}"[:2_000]
            return await self._proven(change, work, EventKind.TASK_UNPROVEN, reason)
        is_again = after is TaskState.QUEUED
        kept = replace(
            change,
            next=after,
            retries=draft.retries,
            infra_failures=draft.infra_failures,
            execution_ok=None,
            verified=None,
            ladder=None,
            ready_ms=change.ready_ms if is_again else None,
            avoid=f"agent:{draft.agent}",
            reason=why if is_again else f"no other machine could tell whether its checks pass: {why}"[:2_000],
        )
        finished = await super()._finish(kept)
        if after is TaskState.WAITING:
            self._offer(work, change.at_ms)
        return replace(finished, next=after)

    async def _not_there(self, change: c.Finish, draft: Draft) -> c.Finished:
        """Nothing is kept that could be proven: the work has to be done once more."""
        kept = replace(
            change,
            next=TaskState.QUEUED,
            retries=draft.retries,
            infra_failures=draft.infra_failures,
            execution_ok=None,
            verified=None,
            ladder=None,
            queue=class_of_work(draft.class_text),
            reason="no attempt has left work that could be proven",
        )
        return replace(await super()._finish(kept), next=TaskState.QUEUED)

    async def _judge_work(
        self, work: AttemptRow, state: AttemptState, failure: FailureClass | None, reason: str
    ) -> None:
        """Write to the attempt that did the work what has become of it."""
        values = (state.value, state is AttemptState.PASSED, failure and failure.value, reason)
        await self._run("review_attempt", work.task, work.epoch, *values)

    async def _give_back(self, work: AttemptRow) -> None:
        """The task has ended, and belongs to who did its work."""
        draft = await self._draft(work.task)
        if draft is not None:
            draft.agent, draft.started_ms = work.agent, work.started_ms
            self._change(draft)

    def _offer(self, work: AttemptRow, at_ms: int) -> None:
        """Work that was pushed may become a pull request, as soon as its task is completed."""
        result = _result(work)
        if result.pushed and result.branch:
            self._new_pulls[work.task] = (work.task, work.epoch, at_ms)

    async def _skip_proof(self, change: c.SkipProof) -> c.Finished:
        draft = await self._draft(change.task)
        proof = requirements_of(draft.class_text).proof if draft is not None and is_proof(draft.class_text) else None
        if draft is None or proof is None or proof.must or draft.state != TaskState.QUEUED:
            raise StaleTask(change.task, TaskState.QUEUED, TaskState(draft.state) if draft else None)
        work = work_of(await self._attempts(change.task))
        if work is None:
            raise StaleTask(change.task, TaskState.COMPLETED, TaskState(draft.state))
        await self._judge_work(work, AttemptState.PASSED, None, change.reason)
        draft.state, draft.ended_ms, draft.ready_ms = TaskState.COMPLETED, change.at_ms, None
        draft.execution_ok, draft.verified, draft.reason = True, True, change.reason
        await self._give_back(work)
        self._offer(work, change.at_ms)
        self._move(TaskState.QUEUED, TaskState.COMPLETED)
        facts = _facts(work) | {"reason": change.reason}
        self._tell(EventKind.TASK_UNPROVEN, change.at_ms, change.task, None, work.epoch, reason=change.reason)
        self._tell(EventKind.TASK_COMPLETED, change.at_ms, change.task, work.agent, work.epoch, **facts)
        await self._write()
        return c.Finished(
            next=TaskState.COMPLETED, ready=await self._settle(change.task, TaskState.COMPLETED, change.at_ms)
        )


def _done_again(change: c.Finish) -> c.Finish:
    """The end of an attempt that did work which waits for its proof: it tells nothing about that, and is no work."""
    attempt = AttemptState.FAILED if change.attempt is AttemptState.PASSED else change.attempt
    reason = change.reason or "it did work that was done, and waits for its proof"
    return replace(change, attempt=attempt, failure=FailureClass.INFRA, reason=reason)


def work_of(attempts: Sequence[AttemptRow]) -> AttemptRow | None:
    """The last attempt that has done the work and passed its checks; ``None``: none has."""
    works = (row for row in reversed(attempts) if row.state is AttemptState.PASSED and row.result is not None)
    return next((row for row in works if not is_proof_attempt(row)), None)


def proof_of(attempts: Sequence[AttemptRow]) -> Proof | None:
    """The work that the last attempt is to prove; ``None``: it does work of its own, or there is none to be proven."""
    if not proofs_of(attempts) or (work := work_of(attempts)) is None:
        return None
    result = _result(work)
    return Proof(
        attempt=AttemptId(work.agent, work.boot, work.task, work.epoch), branch=result.branch, commit=result.commit
    )


def _result(work: AttemptRow) -> TaskResult:
    assert work.result is not None, "work that is to be proven has a result"
    return codec.decode_result(work.result)


def _facts(work: AttemptRow) -> dict[str, object]:
    result = _result(work)
    return {
        "execution_ok": True,
        "verified": True,
        "iterations": len(result.iterations),
        "model": result.usage.model,
        "cost_usd": result.usage.cost_usd,
    }

"""Rows of the store as the views that people see."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

from msgspec.structs import replace

from hub.core.agent import Agent
from hub.core.routing import PROOF, decode_placement, is_proof, routing_of
from hub.core.task import HELD_STATES, QUEUED
from hub.store.changes import NewTask
from hub.store.pull_changes import PullRow
from hub.store.review_changes import ReviewRow
from hub.store.store import ArtifactRow, AttemptRow, LogRow, OutputRow, TaskRow
from protocol import codec
from protocol.api import AgentView, ArtifactView, AttemptView, EventView, LogPiece, OutputPiece, TaskSummary, TaskView
from protocol.events import Event
from protocol.limits import MAX_TITLE_CHARS
from protocol.model import FINAL_STATES, AgentState, FailureClass, Priority, TaskSpec, TaskState, TierDecision, Usage
from protocol.pulls import PullView
from protocol.reviews import ProofView, ReviewView

_PRIORITIES = tuple(str(priority) for priority in Priority)


def at(ms: int | None) -> datetime | None:
    """Unix milliseconds as a time."""
    return None if ms is None else moment(ms)


@lru_cache(256)  # rows of one commit share their times
def moment(ms: int) -> datetime:
    """Unix milliseconds as a time."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def task_title(spec: TaskSpec) -> str:
    """What to call a task: its title, else the first line of what it asks for."""
    text = spec.title or spec.prompt or spec.command
    text = text.strip()
    if len(text) <= MAX_TITLE_CHARS and text.isprintable():
        return text  # one line
    lines = text.splitlines()
    return lines[0][:MAX_TITLE_CHARS] if lines else ""


def summary(row: TaskRow) -> TaskSummary:
    """A task in a list."""
    return TaskSummary(
        id=row.id,
        title=row.title,
        state=row.state,
        priority=_PRIORITIES[row.priority],
        agent=row.agent,
        epoch=row.epoch,
        tier=row.tier,
        model=row.model,
        execution_ok=row.execution_ok,
        verified=row.verified,
        reason=row.reason,
        labels=row.labels,
        submitted_at=moment(row.submitted_ms),
        queued_at=at(row.queued_ms),
        started_at=at(row.started_ms),
        ended_at=at(row.ended_ms),
    )


def new_summaries(tasks: Sequence[NewTask], states: Sequence[TaskState], at_ms: int) -> tuple[TaskSummary, ...]:
    """Tasks that have just been stored together: most of them share nearly everything."""
    now, last, found = moment(at_ms), None, None
    made = []
    for task, state in zip(tasks, states, strict=True):
        shared = state, task.priority, task.level, task.model
        if found is None or shared != last:
            found, last = _new_summary(task, state, now), shared
        else:
            found = replace(found, id=task.id, title=task.title, labels=task.labels)
        made.append(found)
    return tuple(made)


def _new_summary(task: NewTask, state: TaskState, now: datetime) -> TaskSummary:
    return TaskSummary(
        id=task.id,
        title=task.title,
        state=state,
        priority=_PRIORITIES[task.priority],
        agent=None,
        epoch=0,
        tier=task.level,
        model=task.model,
        execution_ok=None,
        verified=None,
        reason="",
        labels=task.labels,
        submitted_at=now,
        queued_at=now if state is QUEUED else None,
        started_at=None,
        ended_at=None,
    )


def attempt(row: AttemptRow, tier: TierDecision) -> AttemptView:
    """One attempt, with its result if it brought one."""
    return AttemptView(
        epoch=row.epoch,
        agent=row.agent,
        host=row.host,
        state=row.state,
        accepted=row.accepted,
        failure=row.failure,
        reason=row.reason,
        assigned_at=moment(row.assigned_ms),
        started_at=at(row.started_ms),
        ended_at=at(row.ended_ms),
        routing=routing_of(tier, decode_placement(row.placement)),
        result=codec.decode_result(row.result) if row.result is not None else None,
        suspect=row.suspect and row.ended_ms is not None,
    )


def task(row: TaskRow, spec: TaskSpec, tier: TierDecision, attempts: list[AttemptRow]) -> TaskView:
    """A task, whole: its result is that of the accepted attempt, its iterations those of the last one that has any."""
    views = tuple(attempt(a, tier) for a in attempts)
    works = [view for view in views if not _is_proof(view)]
    results = [view.result for view in views if view.result is not None]
    worked = [view.result for view in works if view.result is not None]
    usage = Usage()
    for result in results:
        usage = usage.plus(result.usage)
    short = summary(row)
    return TaskView(
        **{name: getattr(short, name) for name in TaskSummary.__struct_fields__},
        spec=spec,
        routing=works[-1].routing if works and works[-1].routing else routing_of(tier, None),
        attempts=views,
        iterations=worked[-1].iterations if worked else (),
        result=next((view.result for view in views if view.accepted), None),
        usage=usage,
        retries_left=max(0, row.max_retries - row.retries),
        ready_at=at(row.ready_ms),
        proof=proof(row, views),
    )


def _is_proof(view: AttemptView) -> bool:
    return view.routing is not None and view.routing.executor == PROOF


def proof(row: TaskRow, attempts: Sequence[AttemptView]) -> ProofView | None:
    """What another machine says about the checks of a task, by its attempts, oldest first."""
    works = [view for view in attempts if not _is_proof(view)]
    proofs = [view for view in attempts if _is_proof(view) and view.epoch > (works[-1].epoch if works else 0)]
    if not works or not (proofs or is_proof(row.class_text)):
        return None
    work, last = works[-1], proofs[-1] if proofs else None
    is_open = is_proof(row.class_text) and row.state not in FINAL_STATES
    return ProofView(
        state=_proof_state(row, last) if not is_open else "running" if row.state in HELD_STATES else "waits",
        epoch=work.epoch,
        agent=work.agent,
        host=work.host,
        by_epoch=last.epoch if last else 0,
        by_agent=last.agent if last else "",
        by_host=last.host if last else "",
        reason=row.reason if is_open else work.reason,
        report=last.result.report if last and last.result else (),
    )


def _proof_state(row: TaskRow, last: AttemptView | None) -> str:
    if last is not None and last.failure is FailureClass.VERIFY:
        return "refuted"
    is_proven = last is not None and last.failure is None and last.result is not None and last.result.verified
    return "proven" if is_proven and row.state is TaskState.COMPLETED else "untold"


def event(row: Event) -> EventView:
    """One fact."""
    return EventView(
        seq=row.seq,
        at=moment(row.at_ms),
        kind=row.kind,
        task=row.task,
        agent=row.agent,
        epoch=row.epoch,
        facts=row.facts,
    )


def review(row: ReviewRow) -> ReviewView:
    """What a person has decided about an attempt."""
    return ReviewView(epoch=row.epoch, verdict=row.verdict, by=row.by, reason=row.reason, at=moment(row.at_ms))


def pull(row: PullRow) -> PullView:
    """A pull request."""
    record = row.record
    return PullView(
        task=row.task,
        project=row.project,
        state=row.state,
        branch=record.branch,
        into=record.into,
        commit=record.commit,
        number=record.number,
        url=record.url,
        risk=record.risk,
        reasons=record.reasons,
        approved_by=record.approved_by,
        problem=record.problem,
        tries=record.tries,
        next_at=at(row.next_ms),
        changed_at=moment(row.changed_ms),
    )


def log_piece(row: LogRow) -> LogPiece:
    """A piece of output."""
    return LogPiece(seq=row.seq, at=moment(row.at_ms), epoch=row.epoch, stream=row.stream, text=row.text)


def output_piece(row: OutputRow) -> OutputPiece:
    """A piece of output, and whose it is."""
    piece = log_piece(row)
    return OutputPiece(
        **{name: getattr(piece, name) for name in LogPiece.__struct_fields__},
        task=row.task,
        title=row.title,
        agent=row.agent,
    )


def artifact(row: ArtifactRow) -> ArtifactView:
    """A file that an attempt has kept."""
    return ArtifactView(
        id=row.id,
        task=row.task,
        epoch=row.epoch,
        path=row.path,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        at=moment(row.at_ms),
        accepted=row.accepted,
    )


def agent_view(agent: Agent, hub_url: str, *, is_elsewhere: bool) -> AgentView:
    """An agent as people see it; ``is_elsewhere``: it is at another hub that lives."""
    state, tasks = agent.state, {*agent.held, *agent.away}
    if is_elsewhere:
        at_work = AgentState.WORKING if tasks else AgentState.IDLE
        state = AgentState.DRAINING if agent.is_draining else at_work
    if agent.quarantine and state is not AgentState.OFFLINE:
        state = AgentState.BLOCKED
    return AgentView(
        name=agent.name,
        state=state,
        host=agent.host,
        slots=agent.slots,
        busy=len(tasks),
        capabilities=tuple(sorted(agent.capabilities)),
        version=agent.version,
        boot_epoch=agent.boot,
        last_seen_at=at(agent.last_seen_ms),
        tasks=tuple(sorted(tasks)),
        draining=agent.is_draining,
        alarm=agent.alarm,
        alarm_at=at(agent.alarm_ms) if agent.alarm else None,
        hub=hub_url,
        violations=agent.conduct.count,
        violation=agent.conduct.last,
        shut_out_until=at(agent.conduct.until_ms),
        upgrade=agent.upgrade,
        upgrade_failed=agent.upgrade_failed,
        quarantine=agent.quarantine,
    )

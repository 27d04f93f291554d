"""Rows of the store as the views that people see."""

from datetime import UTC, datetime
from functools import lru_cache

from hub.core.routing import decode_placement, routing_of
from hub.store.changes import NewTask
from hub.store.pull_changes import PullRow
from hub.store.review_changes import ReviewRow
from hub.store.store import ArtifactRow, AttemptRow, LogRow, TaskRow
from protocol import codec
from protocol.api import ArtifactView, AttemptView, EventView, LogPiece, TaskSummary, TaskView
from protocol.events import Event
from protocol.limits import MAX_TITLE_CHARS
from protocol.model import Priority, TaskSpec, TaskState, TierDecision, Usage
from protocol.pulls import PullView
from protocol.reviews import ReviewView

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
    lines = text.strip().splitlines()
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
        execution_ok=row.execution_ok,
        verified=row.verified,
        reason=row.reason,
        labels=row.labels,
        submitted_at=moment(row.submitted_ms),
        queued_at=at(row.queued_ms),
        started_at=at(row.started_ms),
        ended_at=at(row.ended_ms),
    )


def new_summary(task: NewTask, state: TaskState, at_ms: int) -> TaskSummary:
    """A task that has just been stored."""
    return TaskSummary(
        id=task.id,
        title=task.title,
        state=state,
        priority=_PRIORITIES[task.priority],
        agent=None,
        epoch=0,
        execution_ok=None,
        verified=None,
        reason="",
        labels=task.labels,
        submitted_at=moment(at_ms),
        queued_at=moment(at_ms) if state is TaskState.QUEUED else None,
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
    results = [view.result for view in views if view.result is not None]
    usage = Usage()
    for result in results:
        usage = usage.plus(result.usage)
    short = summary(row)
    return TaskView(
        **{name: getattr(short, name) for name in TaskSummary.__struct_fields__},
        spec=spec,
        routing=views[-1].routing if views and views[-1].routing else routing_of(tier, None),
        attempts=views,
        iterations=results[-1].iterations if results else (),
        result=next((view.result for view in views if view.accepted), None),
        usage=usage,
        retries_left=max(0, row.max_retries - row.retries),
        ready_at=at(row.ready_ms),
    )


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

"""Rows of the store as records: the columns that the queries name, in the order in which they name them.

The same for every database; a driver's own types (memory views, numbers for truth values) end here.
"""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from hub.core.access import Scope
from hub.core.alerts import Alert
from hub.core.audit import Entry
from hub.core.buckets import Limit
from hub.core.budgets import Amount, Charge, Limits, Purse
from hub.core.facets import Alike
from hub.core.health import Health
from hub.core.pulls import Record
from hub.core.usage import Used
from hub.store.alert_changes import NotifierRow
from hub.store.budget_changes import BudgetRow
from hub.store.endpoint_changes import EndpointRow, HealthRow
from hub.store.hold_changes import HoldRow
from hub.store.hub_changes import HeldRow, HubRow, WaitingTask
from hub.store.join_changes import JoinTokenRow
from hub.store.level_changes import LevelRow
from hub.store.project_changes import ProjectRow
from hub.store.pull_changes import PullRow
from hub.store.rate_changes import RateRow
from hub.store.review_changes import ReviewRow
from hub.store.secret_changes import SecretRow
from hub.store.store import AgentRow, ArtifactRow, AttemptRow, LogRow, OutputRow, TaskRow
from hub.store.token_changes import TokenRow
from protocol.alerts import AlertState, Severity
from protocol.budgets import BudgetScope
from protocol.endpoints import EndpointReport
from protocol.events import Event, EventKind
from protocol.log_levels import LogLevel
from protocol.model import AttemptState, FailureClass, Priority, TaskState
from protocol.progress import HoldKind
from protocol.pulls import PullState
from protocol.rate_limits import Action

Row = Sequence[Any]
_PRIORITIES = tuple(str(priority) for priority in Priority)


def task(r: Row) -> TaskRow:
    """A task."""
    return TaskRow(
        id=r[0],
        state=TaskState(r[1]),
        class_text=r[2],
        priority=r[3],
        epoch=r[4],
        agent=r[5],
        title=r[6],
        labels=json.loads(r[7]),
        retries=r[8],
        max_retries=r[9],
        infra_failures=r[10],
        ready_ms=r[11],
        submitted_ms=r[12],
        queued_ms=r[13],
        started_ms=r[14],
        ended_ms=r[15],
        execution_ok=None if r[16] is None else bool(r[16]),
        verified=None if r[17] is None else bool(r[17]),
        reason=r[18],
        hub=r[19],
        tier=r[20],
        model=r[21],
    )


def alike(r: Row) -> Alike:
    """Tasks that are alike."""
    return Alike(r[0], _PRIORITIES[r[1]], r[2], r[3] or "", r[4], r[5])


def held(r: Row) -> HeldRow:
    """A task in somebody's hands, and the attempt."""
    return HeldRow(task(r), attempt(r[22:]))


def hub(r: Row) -> HubRow:
    """A hub."""
    return HubRow(boot=r[0], node=r[1], url=r[2], version=r[3], started_ms=r[4], until_ms=r[5])


def waiting_task(r: Row) -> WaitingTask:
    """A task that waits in the queue."""
    times = [at_ms for at_ms in r[4:] if at_ms is not None]
    is_ready = r[1] == TaskState.QUEUED and r[4] is None
    wake_ms = min(times, default=None)
    return WaitingTask(task=r[0], class_text=r[2], priority=r[3], is_ready=is_ready, wake_ms=wake_ms)


def attempt(r: Row) -> AttemptRow:
    """An attempt."""
    return AttemptRow(
        task=r[0],
        epoch=r[1],
        agent=r[2],
        host=r[3],
        boot=r[4],
        state=AttemptState(r[5]),
        accepted=bool(r[6]),
        failure=FailureClass(r[7]) if r[7] else None,
        reason=r[8],
        assigned_ms=r[9],
        started_ms=r[10],
        ended_ms=r[11],
        placement=bytes(r[12]),
        result=bytes(r[13]) if r[13] is not None else None,
        suspect=bool(r[14]),
    )


def event(r: Row) -> Event:
    """A fact."""
    return Event(
        seq=r[0],
        at_ms=r[1],
        kind=EventKind(r[2]),
        task=r[3],
        agent=r[4],
        epoch=r[5],
        facts=_facts(r[6]) if r[6] else {},
    )


def _facts(text: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = msgspec.json.decode(text)
    except msgspec.DecodeError:  # a number that is none (NaN), which JSON does not know and Python writes
        found = json.loads(text)
    return found


def entry(r: Row) -> Entry:
    """An entry of the audit log."""
    seq, at_ms, actor, role, action, subject, verdict, detail, hash_ = r
    return Entry(
        seq=seq,
        at_ms=at_ms,
        actor=actor,
        role=role,
        action=action,
        subject=subject,
        verdict=verdict,
        detail=detail,
        hash=bytes(hash_),
    )


def agent(r: Row) -> AgentRow:
    """An agent."""
    return AgentRow(
        name=r[0],
        host=r[1],
        boot=r[2],
        slots=r[3],
        version=r[4],
        capabilities=tuple(json.loads(r[5])),
        draining=bool(r[6]),
        last_seen_ms=r[7],
        leaving=bool(r[8]),
        instance=r[9],
        hub=r[10],
        seat=r[11],
        quarantine=r[12],
    )


def artifact(r: Row) -> ArtifactRow:
    """A file that an attempt has left."""
    return ArtifactRow(
        id=r[0], task=r[1], epoch=r[2], path=r[3], size_bytes=r[4], sha256=r[5], at_ms=r[6], accepted=bool(r[7])
    )


def review(r: Row) -> ReviewRow:
    """What a person has decided about an attempt."""
    return ReviewRow(epoch=r[0], at_ms=r[1], verdict=r[2], by=r[3], reason=r[4])


def log_piece(r: Row) -> LogRow:
    """A piece of output."""
    return LogRow(seq=r[0], at_ms=r[1], epoch=r[2], stream=r[3], text=r[4])


def output(r: Row) -> OutputRow:
    """A piece of output, and whose it is."""
    labels = json.loads(r[7])
    return OutputRow(
        seq=r[0], at_ms=r[1], epoch=r[2], stream=r[3], text=r[4], task=r[5], title=r[6], labels=labels, agent=r[8]
    )


def endpoint(r: Row) -> EndpointRow:
    """An endpoint."""
    return EndpointRow(id=r[0], kind=r[1], url=r[2], local=bool(r[3]), default_model=r[4], rpm=r[5], tpm=r[6])


def health(r: Row) -> HealthRow:
    """How an endpoint does."""
    seen = msgspec.json.decode(bytes(r[1]), type=EndpointReport)
    return HealthRow(host=r[0], seen=seen, health=msgspec.json.decode(bytes(r[2]), type=Health))


def hold(r: Row) -> HoldRow:
    """Why a task is held up, or was."""
    task, kind, by, reason, at_ms, note, ended_ms, epoch = r
    return HoldRow(
        task=task, kind=HoldKind(kind), by=by, reason=reason, at_ms=at_ms, note=note, ended_ms=ended_ms, epoch=epoch
    )


def project(r: Row) -> ProjectRow:
    """A project."""
    return ProjectRow(
        name=r[0], is_default=bool(r[1]), body=bytes(r[2]), created_ms=r[3], changed_ms=r[4], version=r[5]
    )


def pull(r: Row) -> PullRow:
    """A pull request."""
    task, epoch, project_, state, body, next_ms, changed_ms, version = r
    return PullRow(
        task=task,
        epoch=epoch,
        project=project_,
        state=PullState(state),
        record=msgspec.json.decode(bytes(body), type=Record),
        next_ms=next_ms,
        changed_ms=changed_ms,
        version=version,
    )


def join_token(r: Row) -> JoinTokenRow:
    """A join token."""
    return JoinTokenRow(
        id=r[0],
        label=r[1],
        digest=bytes(r[2]),
        uses=r[3],
        used=r[4],
        created_ms=r[5],
        expires_ms=r[6],
        created_by=r[7],
        revoked_ms=r[8],
    )


def token(r: Row) -> TokenRow:
    """A token."""
    return TokenRow(
        id=r[0],
        role=r[1],
        label=r[2],
        digest=bytes(r[3]),
        created_ms=r[4],
        expires_ms=r[5],
        last_used_ms=r[6],
        revoked_ms=r[7],
        scope=msgspec.json.decode(r[8], type=Scope),
    )


def rate(r: Row) -> RateRow:
    """A limit on how often may be asked."""
    return RateRow(subject=r[0], action=Action(r[1]), limit=Limit(r[2], r[3]), changed_ms=r[4], changed_by=r[5])


def log_level(r: Row) -> LevelRow:
    """From which level on a component logs."""
    return LevelRow(component=r[0], level=LogLevel(r[1]), changed_ms=r[2], changed_by=r[3])


def alert(r: Row) -> Alert:
    """An alert."""
    return Alert(
        id=r[0],
        rule=r[1],
        severity=Severity(r[2]),
        subject=r[3],
        state=AlertState(r[4]),
        summary=r[5],
        value=float(r[6]),
        threshold=float(r[7]),
        since_ms=r[8],
        until_ms=r[9],
        by=r[10],
        silent_ms=r[11],
    )


def notifier(r: Row) -> NotifierRow:
    """Somebody who is told."""
    return NotifierRow(
        id=r[0],
        kind=r[1],
        url=r[2],
        secret=r[3],
        label=r[4],
        least=Severity(r[5]),
        told=r[6],
        tries=r[7],
        next_ms=r[8],
        problem=r[9],
    )


def secret(r: Row) -> SecretRow:
    """A secret, sealed."""
    name, version, key, sealed, projects, created_ms, changed_ms, by = r
    return SecretRow(
        name=name,
        version=version,
        key=key,
        sealed=bytes(sealed),
        projects=msgspec.json.decode(projects, type=tuple[str, ...]),
        created_ms=created_ms,
        changed_ms=changed_ms,
        changed_by=by,
    )


def budget(r: Row) -> BudgetRow:
    """A budget."""
    return BudgetRow(scope=(BudgetScope(r[0]), r[1]), limits=Limits(r[2], r[3], r[4]), changed_ms=r[5], changed_by=r[6])


def used(r: Row) -> Used:
    """What attempts have used."""
    numbers = [int(each or 0) for each in r[5:]]
    return Used(
        at_ms=int(r[0]),
        model=r[1],
        submitter=r[2],
        project=r[3],
        labels=json.loads(r[4]),
        attempts=numbers[0],
        input_tokens=numbers[1],
        output_tokens=numbers[2],
        cached_tokens=numbers[3],
        micro=numbers[4],
        ms=numbers[5],
        unpriced=numbers[6],
    )


def purse(r: Row) -> Purse:
    """What a scope has used of a day."""
    return Purse(Amount(r[2], r[3], r[4]), Amount(r[5], r[6], r[7]))


def charge(r: Row) -> tuple[Charge, bool]:
    """What an attempt has reserved, and whether its use is only presumed."""
    return Charge(r[0], r[1], r[2], Amount(r[3], r[4], r[5])), bool(r[6])

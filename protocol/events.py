"""Facts that happened, in past tense: the kinds of the one append-only log.

An event row is written in the same transaction as the state it tells of. ``facts`` holds only small things worth
showing (states, reasons, counts), never prompts, output or secrets.
"""

from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct


class EventKind(StrEnum):
    """What happened."""

    TASK_BLOCKED = "task_blocked"
    TASK_QUEUED = "task_queued"
    TASK_ASSIGNED = "task_assigned"
    TASK_STARTED = "task_started"
    TASK_VERIFYING = "task_verifying"
    TASK_ITERATION = "task_iteration"
    TASK_COMPLETED = "task_completed"
    TASK_FAILED = "task_failed"
    TASK_CANCELLED = "task_cancelled"
    TASK_REQUEUED = "task_requeued"
    AGENT_RECLAIMED = "agent_reclaimed"  # the owner of its machine has taken the GPU back
    AGENT_GIVEN_BACK = "agent_given_back"
    TASK_PAUSING = "task_pausing"  # its attempt is to stop at the end of its turn
    TASK_PAUSED = "task_paused"
    TASK_RESUMED = "task_resumed"
    TASK_DEAD = "task_dead"
    TASK_CLIMBED = "task_climbed"
    TASK_FELL_BACK = "task_fell_back"
    ATTEMPT_LOST = "attempt_lost"
    ATTEMPT_REJECTED = "attempt_rejected"
    REPORT_STALE = "report_stale"
    AGENT_JOINED = "agent_joined"
    AGENT_LOST = "agent_lost"
    AGENT_CLONED = "agent_cloned"
    AGENT_LEAVING = "agent_leaving"
    AGENT_DRAINING = "agent_draining"
    AGENT_RESUMED = "agent_resumed"
    ENDPOINT_ADDED = "endpoint_added"
    ENDPOINT_REMOVED = "endpoint_removed"
    ENDPOINT_UP = "endpoint_up"
    ENDPOINT_DOWN = "endpoint_down"
    TOKEN_CREATED = "token_created"  # noqa: S105 - the name of an event
    TOKEN_REVOKED = "token_revoked"  # noqa: S105 - the name of an event
    AGENT_REMOVED = "agent_removed"
    HUB_STARTED = "hub_started"
    DISK_LOW = "disk_low"
    DISK_OK = "disk_ok"
    MEMORY_HIGH = "memory_high"
    MEMORY_OK = "memory_ok"
    HUB_STOPPED = "hub_stopped"
    HUB_LOST = "hub_lost"
    TASK_READY = "task_ready"
    HUB_RESTORED = "hub_restored"
    BACKUP_MADE = "backup_made"
    BACKUP_FAILED = "backup_failed"
    STORE_CLEANED = "store_cleaned"
    MODEL_PREWARMED = "model_prewarmed"  # a model is loaded ahead of its work
    PREWARM_CANCELLED = "prewarm_cancelled"
    TOOL_CALLED = "tool_called"  # what a model has done in a turn: which tools, on what, and whether that went well
    TASK_ANSWERING = "task_answering"  # a model takes long to answer; told now and then
    ENDPOINT_COOLDOWN = "endpoint_cooldown"
    ARTIFACT_STORED = "artifact_stored"
    PROJECT_ADDED = "project_added"
    PROJECT_CHANGED = "project_changed"
    PROJECT_REMOVED = "project_removed"
    PROJECT_PUSHED = "project_pushed"
    BUDGET_SET = "budget_set"
    BUDGET_REMOVED = "budget_removed"
    TASK_WAITING = "task_waiting"  # for a person
    TASK_APPROVED = "task_approved"
    TASK_REJECTED = "task_rejected"
    PULL_OPENED = "pull_opened"
    PULL_APPROVED = "pull_approved"  # by a person
    PULL_MERGED = "pull_merged"
    PULL_CLOSED = "pull_closed"  # at the forge, without being merged
    PULL_FAILED = "pull_failed"  # the forge refuses it
    TASK_PRIORITISED = "task_prioritised"
    TASK_PROVING = "task_proving"  # its checks passed where it was done; another machine has to prove it
    TASK_PROVEN = "task_proven"
    TASK_REFUTED = "task_refuted"  # its checks fail on another machine
    TASK_UNPROVEN = "task_unproven"  # no other machine could tell: what its own machine found counts
    JOIN_TOKEN_CREATED = "join_token_created"  # noqa: S105 - the name of an event
    JOIN_TOKEN_REVOKED = "join_token_revoked"  # noqa: S105 - the name of an event
    JOIN_ASKED = "join_asked"  # a machine without a token waits for a person
    JOIN_APPROVED = "join_approved"
    JOIN_DENIED = "join_denied"
    MACHINE_JOINED = "machine_joined"
    MACHINE_LEFT = "machine_left"
    RATE_LIMIT_SET = "rate_limit_set"
    RATE_LIMIT_RESET = "rate_limit_reset"
    AGENT_VIOLATED = "agent_violated"  # it has not kept to the protocol
    ALERT_FIRED = "alert_fired"  # something is wrong, and somebody has to be told
    ALERT_RESOLVED = "alert_resolved"
    AGENT_QUARANTINED = "agent_quarantined"  # its key is in use twice: it gets no work
    AGENT_RELEASED = "agent_released"  # a person has put that right


class Event(Struct, frozen=True, kw_only=True, gc=False):
    """One fact; ``seq`` is given by the store (0 before that), ``at_ms`` is Unix time in milliseconds."""

    kind: EventKind
    at_ms: int
    seq: int = 0
    task: str | None = None
    agent: str | None = None
    epoch: int | None = None
    facts: dict[str, Any] = {}

    def with_facts(self, **facts: Any) -> "Event":
        """The same event that says more."""
        return msgspec.structs.replace(self, facts={**self.facts, **facts})

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

    TASK_BLOCKED = "task_blocked"  # it was submitted, and waits for others, or for its time
    TASK_QUEUED = "task_queued"  # it was submitted, or became free, or was retried by a person: an agent may have it
    TASK_ASSIGNED = "task_assigned"  # an agent was given it: an attempt has begun
    TASK_STARTED = "task_started"  # its agent has accepted it and works
    TASK_VERIFYING = "task_verifying"  # its checks run
    TASK_ITERATION = "task_iteration"  # its checks failed, and it is worked on again in the same attempt
    TASK_COMPLETED = "task_completed"  # it is done, and its checks passed if it has any
    TASK_FAILED = "task_failed"  # it is over and did not get done
    TASK_CANCELLED = "task_cancelled"  # somebody has cancelled it
    TASK_REQUEUED = "task_requeued"  # an attempt has ended without success, and there will be another one
    AGENT_RECLAIMED = "agent_reclaimed"  # the owner of its machine has taken the GPU back
    AGENT_GIVEN_BACK = "agent_given_back"  # the owner of its machine lets models work there again
    TASK_PAUSING = "task_pausing"  # its attempt is to stop at the end of its turn
    TASK_PAUSED = "task_paused"  # it waits until somebody resumes it
    TASK_RESUMED = "task_resumed"  # it may go on
    TASK_DEAD = "task_dead"  # its retries are spent: a dead letter, which only a person can retry
    TASK_CLIMBED = "task_climbed"  # its checks kept failing: a stronger model has it next
    TASK_FELL_BACK = "task_fell_back"  # it is done by another strategy than the first of its chain
    ATTEMPT_LOST = "attempt_lost"  # its agent was silent for too long, or gave it up
    ATTEMPT_REJECTED = "attempt_rejected"  # its agent did not take it
    REPORT_STALE = "report_stale"  # a report came of an attempt that does not count any more; it has changed nothing
    AGENT_JOINED = "agent_joined"  # a sidecar has introduced itself
    AGENT_LOST = "agent_lost"  # a sidecar is gone without a word
    AGENT_CLONED = "agent_cloned"  # a second sidecar of the same name has come
    AGENT_LEAVING = "agent_leaving"  # a sidecar finishes what it has and will go
    AGENT_DRAINING = "agent_draining"  # a person wants it to get nothing new
    AGENT_RESUMED = "agent_resumed"  # it may get work again
    ENDPOINT_ADDED = "endpoint_added"  # a person has added an LLM endpoint, or changed it
    ENDPOINT_REMOVED = "endpoint_removed"  # a person has removed an LLM endpoint
    ENDPOINT_UP = "endpoint_up"  # an LLM endpoint answers
    ENDPOINT_DOWN = "endpoint_down"  # an LLM endpoint does not answer any more
    TOKEN_CREATED = "token_created"  # noqa: S105 - the name of an event
    """A token was made."""
    TOKEN_REVOKED = "token_revoked"  # noqa: S105 - the name of an event
    """A token has ended."""
    AGENT_REMOVED = "agent_removed"  # it was forgotten
    HUB_STARTED = "hub_started"  # a hub serves
    DISK_LOW = "disk_low"  # the hub takes no new tasks: its disk has too little room
    DISK_OK = "disk_ok"  # the disk has room again
    MEMORY_HIGH = "memory_high"  # the hub takes no new tasks: it has too little memory
    MEMORY_OK = "memory_ok"  # there is memory again
    HUB_STOPPED = "hub_stopped"  # a hub has ended in good order
    HUB_LOST = "hub_lost"  # a hub has ended without a word; others have its work
    TASK_READY = "task_ready"  # its time has come, or its wait before the next attempt is over
    HUB_RESTORED = "hub_restored"  # the store is that of a backup: epochs and numbers of events have jumped
    BACKUP_MADE = "backup_made"  # a copy of the store was made and looked through
    BACKUP_FAILED = "backup_failed"  # there is no new copy of the store
    STORE_CLEANED = "store_cleaned"  # what was old was forgotten
    MODEL_PREWARMED = "model_prewarmed"  # a model is loaded ahead of its work
    PREWARM_CANCELLED = "prewarm_cancelled"  # that model is not needed there after all
    TOOL_CALLED = "tool_called"  # what a model has done in a turn: which tools, on what, and whether that went well
    TASK_ANSWERING = "task_answering"  # a model takes long to answer; told now and then
    ENDPOINT_COOLDOWN = "endpoint_cooldown"  # an LLM endpoint refuses work, and gets none for a while
    ARTIFACT_STORED = "artifact_stored"  # a file of an attempt is kept
    PROJECT_ADDED = "project_added"  # a project was registered
    PROJECT_CHANGED = "project_changed"  # its settings or files were changed
    PROJECT_REMOVED = "project_removed"  # it was forgotten
    PROJECT_PUSHED = "project_pushed"  # its commits were pushed
    BUDGET_SET = "budget_set"  # a budget for a day was set
    BUDGET_REMOVED = "budget_removed"  # it was taken away
    TASK_WAITING = "task_waiting"  # for a person
    TASK_APPROVED = "task_approved"  # a person lets the work count
    TASK_REJECTED = "task_rejected"  # a person does not let it count, or sends it back
    PULL_OPENED = "pull_opened"  # the forge has a pull request for the work
    PULL_APPROVED = "pull_approved"  # by a person
    PULL_MERGED = "pull_merged"  # the forge has merged it
    PULL_CLOSED = "pull_closed"  # at the forge, without being merged
    PULL_FAILED = "pull_failed"  # the forge refuses it
    TASK_PRIORITISED = "task_prioritised"  # it goes earlier, or later
    TASK_PROVING = "task_proving"  # its checks passed where it was done; another machine has to prove it
    TASK_PROVEN = "task_proven"  # its checks passed on another machine, too
    TASK_REFUTED = "task_refuted"  # its checks fail on another machine
    TASK_UNPROVEN = "task_unproven"  # no other machine could tell: what its own machine found counts
    JOIN_TOKEN_CREATED = "join_token_created"  # noqa: S105 - the name of an event
    """A token was made with which machines may join."""
    JOIN_TOKEN_REVOKED = "join_token_revoked"  # noqa: S105 - the name of an event
    """It has ended."""
    JOIN_ASKED = "join_asked"  # a machine without a token waits for a person
    JOIN_APPROVED = "join_approved"  # a person lets it in
    JOIN_DENIED = "join_denied"  # a person does not
    MACHINE_JOINED = "machine_joined"  # it was let in and has a token of its own
    MACHINE_LEFT = "machine_left"  # it was taken out, and its token has ended
    RATE_LIMIT_SET = "rate_limit_set"  # how often may be asked was changed
    RATE_LIMIT_RESET = "rate_limit_reset"  # the usual limit counts again
    AGENT_VIOLATED = "agent_violated"  # it has not kept to the protocol
    ALERT_FIRED = "alert_fired"  # something is wrong, and somebody has to be told
    ALERT_RESOLVED = "alert_resolved"  # it is well again
    AGENT_QUARANTINED = "agent_quarantined"  # its key is in use twice: it gets no work
    AGENT_RELEASED = "agent_released"  # a person has put that right
    LOG_LEVELS_SET = "log_levels_set"  # somebody has changed from which level on who logs
    AGENT_UPGRADING = "agent_upgrading"  # its machine is to get the release of the hub
    AGENT_UPGRADE_FAILED = "agent_upgrade_failed"  # that came to nothing, and why


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

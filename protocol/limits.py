"""Every number that both ends of AgentCom obey; the unit is in the name, the reason beside it.

Changing one that a peer can see (sizes, intervals) is a protocol change: an older peer may rely on it.
"""

from typing import Final

MAX_FRAME_BYTES: Final = 1 << 20
"""One WebSocket frame. A 1 MiB frame delays a heartbeat by about 11 ms, an 8 MiB one by 82 ms; bulk goes over HTTP."""

BULK_FRAME_BYTES: Final = 256 << 10
"""Messages packed into one frame beside others: 2 s on a line of 1 Mbit/s. A larger message goes alone."""

UNSENT_BYTES: Final = 128 << 10
"""What the kernel may hold of a connection and has not sent yet: all of it stands before the next heartbeat."""

LITTLE_BYTES: Final = 16 << 10
"""A connection that has taken everything takes as much again at once: less than what its writer may hold back."""

LONGEST_FRAME_S: Final = 60.0
"""How long one frame may take to arrive or to leave: a line below 17 kB/s is none that work can be sent over."""

MAX_FRAME_MESSAGES: Final = 1_000
"""Messages in one frame: bounds what one frame may cost the receiver."""

MAX_BODY_BYTES: Final = 32 << 20
"""One HTTP request body: room for a full batch of ordinary tasks."""

MAX_BATCH_TASKS: Final = 1_000

MAX_SPEC_BYTES: Final = 512 << 10
"""A whole task spec as MessagePack: an assignment must fit a frame with room to spare."""

MAX_PROMPT_BYTES: Final = 256 << 10
MAX_COMMAND_BYTES: Final = 64 << 10
MAX_TITLE_CHARS: Final = 200
MAX_NAME_CHARS: Final = 64
MAX_PATH_CHARS: Final = 1_024
MAX_PATTERN_CHARS: Final = 4_096
"""What a check looks for in a file."""

MAX_CHECKS: Final = 50
MAX_CRITERIA: Final = 50
MAX_FILES: Final = 500
MAX_LABELS: Final = 50
MAX_NEEDS: Final = 20
MAX_DEPENDENCIES: Final = 100
MAX_RETRIES: Final = 20
MAX_FIX_ATTEMPTS: Final = 20
MAX_ARTIFACT_NAMES: Final = 100
"""Paths and patterns of files to keep that a task may name."""

MAX_SECRETS: Final = 16
"""Secrets that a task may name: their values fit one frame together."""

MAX_SECRET_BYTES: Final = 32 << 10
"""A value in UTF-8."""

LEAST_SECRET_CHARS: Final = 8
"""What is shorter is never looked for in output: it would be found in ordinary words. So nothing shorter is kept."""

MAX_ARTIFACTS: Final = 1_000
"""Files that one attempt may keep."""

ARTIFACT_BYTES: Final = 4 << 30
"""The largest file that is kept for a task, unless the hub says otherwise."""

ARTIFACTS_BYTES: Final = 16 << 30
"""All files that are kept of one attempt, unless the hub says otherwise."""

UPLOAD_BYTES_S: Final = 256 << 10
"""A line that is slower than this is none that files are uploaded over."""

MAX_IDEMPOTENCY_KEY_CHARS: Final = 255

MAX_OUTPUT_BYTES: Final = 64 << 10
"""Output kept in a result: the tail is kept, what was cut is counted."""

MAX_DIFF_BYTES: Final = 64 << 10
"""Of what the work has changed, kept in a result: the beginning; the branch has all of it."""

MAX_FINDING_BYTES: Final = 8 << 10
"""Output of one check kept in its finding."""

MAX_RESULT_BYTES: Final = 768 << 10
"""A whole result as MessagePack: it must fit a frame."""

MAX_LOG_CHUNK_BYTES: Final = 32 << 10
MAX_LOG_BYTES: Final = 8 << 20
"""Log bytes that the hub keeps of one attempt; the rest is counted, not stored."""

HANDSHAKE_S: Final = 5.0
HEARTBEAT_S: Final = 5.0
DEAD_AFTER_HEARTBEATS: Final = 3
"""An end that is silent for so many counts as gone."""
MIN_DEAD_AFTER_S: Final = 5.0
"""But not before it was silent for so long, however fast the heartbeats: a machine may stand still for seconds."""
DEAD_AFTER_S: Final = DEAD_AFTER_HEARTBEATS * HEARTBEAT_S
"""Silence after which the other end counts as gone, before anybody has said how fast its heartbeats are."""

LEASE_S: Final = 30.0
"""How long an attempt stays its agent's without a heartbeat that names it."""

HUB_LEASE_S: Final = 5.0
"""How long the other hubs of a database wait for a sign of life of one before they take its work."""

LEASE_MARGIN_S: Final = 5.0
"""How long before the end of its lease a sidecar that hears nothing stops its own child."""

MAX_INFRA_FAILURES: Final = 5
"""Attempts lost to the machinery (dead sidecar, broken link) before a task is given up; they cost no retry."""

MAX_QUOTA_FAILURES: Final = 10
"""Tries against an endpoint that is down or out of quota, on top of the task's own retries."""

MAX_DEATHS: Final = 3
"""Sidecars that may die while they run a task before it is a dead letter: it may be what kills them."""

ALONE_FROM_DEATHS: Final = 2
"""From so many deaths on a task runs only on an agent that runs nothing else, so that no other task dies with it."""

RECONNECT_CAP_S: Final = 15.0
"""Longest wait of a sidecar between two tries to reach its hub (full jitter below it).

Well below a lease, so that a hub that was away hears of finished work before it gives it to another.
"""

MAX_UNACKED: Final = 10_000
"""Ordered messages kept for resending before a session refuses more."""

MAX_UNACKED_BYTES: Final = 64 << 20
"""And their size."""
CHECK_S: Final = 15.0
"""How often an LLM endpoint is looked at; also the longest that nobody knows that it has died, or is back."""
LEAST_CHECK_S: Final = 0.2
MOST_CHECK_S: Final = 3_600.0

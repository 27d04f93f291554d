-- Tasks: the small row that changes at every step; the spec, which never changes, lies beside it.
CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('blocked', 'queued', 'assigned', 'running', 'waiting',
                                         'completed', 'failed', 'cancelled', 'dead')),
    class TEXT NOT NULL,
    priority INTEGER NOT NULL,
    epoch INTEGER NOT NULL DEFAULT 0,
    agent TEXT,
    title TEXT NOT NULL,
    labels TEXT NOT NULL,
    parent TEXT,
    retries INTEGER NOT NULL DEFAULT 0,
    max_retries INTEGER NOT NULL,
    infra_failures INTEGER NOT NULL DEFAULT 0,
    ready_ms INTEGER,
    expires_ms INTEGER,
    complete_by_ms INTEGER,
    submitted_ms INTEGER NOT NULL,
    queued_ms INTEGER,
    started_ms INTEGER,
    ended_ms INTEGER,
    execution_ok INTEGER,
    verified INTEGER,
    reason TEXT NOT NULL DEFAULT '',
    CHECK ((ended_ms IS NULL) = (state NOT IN ('completed', 'failed', 'cancelled', 'dead'))),
    CHECK ((agent IS NULL) OR (state NOT IN ('blocked', 'queued')))
) WITHOUT ROWID;
CREATE INDEX tasks_ready ON tasks (class, priority, id) WHERE state = 'queued' AND ready_ms IS NULL;
CREATE INDEX tasks_delayed ON tasks (ready_ms) WHERE state = 'queued' AND ready_ms IS NOT NULL;
CREATE INDEX tasks_held ON tasks (id) WHERE state IN ('assigned', 'running');
CREATE INDEX tasks_expire ON tasks (expires_ms) WHERE expires_ms IS NOT NULL AND state IN ('blocked', 'queued');
CREATE INDEX tasks_complete_by ON tasks (complete_by_ms)
    WHERE complete_by_ms IS NOT NULL AND ended_ms IS NULL;
CREATE INDEX tasks_troubled ON tasks (state, id) WHERE state IN ('blocked', 'waiting', 'failed', 'cancelled', 'dead');

CREATE TABLE specs (
    task TEXT PRIMARY KEY,
    spec BLOB NOT NULL,
    tier BLOB NOT NULL,
    by TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE attempts (
    task TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    agent TEXT NOT NULL,
    host TEXT NOT NULL,
    boot INTEGER NOT NULL,
    state TEXT NOT NULL,
    accepted INTEGER NOT NULL DEFAULT 0,
    failure TEXT,
    reason TEXT NOT NULL DEFAULT '',
    assigned_ms INTEGER NOT NULL,
    started_ms INTEGER,
    ended_ms INTEGER,
    placement BLOB NOT NULL,
    result BLOB,
    PRIMARY KEY (task, epoch)
) WITHOUT ROWID;
-- One accepted result a task: the promise, kept by the database itself.
CREATE UNIQUE INDEX attempts_accepted ON attempts (task) WHERE accepted = 1;

CREATE TABLE dependencies (
    task TEXT NOT NULL,
    needs TEXT NOT NULL,
    PRIMARY KEY (needs, task)
) WITHOUT ROWID;
CREATE INDEX dependencies_task ON dependencies (task);

CREATE TABLE idempotency (
    key TEXT PRIMARY KEY,
    digest BLOB NOT NULL,
    ids TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- Kept in the same transactions as the rows, so that counting never scans.
CREATE TABLE counts (
    state TEXT PRIMARY KEY,
    n INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    task TEXT,
    agent TEXT,
    epoch INTEGER,
    facts TEXT
);
CREATE INDEX events_task ON events (task, seq) WHERE task IS NOT NULL;

CREATE TABLE logs (
    seq INTEGER PRIMARY KEY,
    task TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    place INTEGER NOT NULL,
    stream TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX logs_task ON logs (task, seq);

CREATE TABLE agents (
    name TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    boot INTEGER NOT NULL,
    slots INTEGER NOT NULL,
    version TEXT NOT NULL,
    capabilities TEXT NOT NULL,
    draining INTEGER NOT NULL,
    last_seen_ms INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE endpoints (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    url TEXT NOT NULL,
    local INTEGER NOT NULL,
    default_model TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    label TEXT NOT NULL,
    digest BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    last_used_ms INTEGER,
    revoked_ms INTEGER
) WITHOUT ROWID;

CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO facts (name, value) VALUES ('hub_boot', 0);

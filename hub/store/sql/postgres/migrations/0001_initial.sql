-- The same tables as in SQLite, so that both keep the same promises. Ids and classes are compared byte by byte (COLLATE
-- "C"): their order is the order of the queue, whatever language the server speaks.
-- Tasks: the small row that changes at every step; the spec, which never changes, lies beside it.
CREATE TABLE tasks (
    id TEXT COLLATE "C" PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('blocked', 'queued', 'assigned', 'running', 'waiting',
                                         'completed', 'failed', 'cancelled', 'dead')),
    class TEXT COLLATE "C" NOT NULL,
    priority BIGINT NOT NULL,
    epoch BIGINT NOT NULL DEFAULT 0,
    agent TEXT,
    title TEXT NOT NULL,
    labels TEXT NOT NULL,
    parent TEXT,
    retries BIGINT NOT NULL DEFAULT 0,
    max_retries BIGINT NOT NULL,
    infra_failures BIGINT NOT NULL DEFAULT 0,
    ready_ms BIGINT,
    expires_ms BIGINT,
    complete_by_ms BIGINT,
    submitted_ms BIGINT NOT NULL,
    queued_ms BIGINT,
    started_ms BIGINT,
    ended_ms BIGINT,
    execution_ok BOOLEAN,
    verified BOOLEAN,
    reason TEXT NOT NULL DEFAULT '',
    CHECK ((ended_ms IS NULL) = (state NOT IN ('completed', 'failed', 'cancelled', 'dead'))),
    CHECK ((agent IS NULL) OR (state NOT IN ('blocked', 'queued')))
) WITH (fillfactor = 80);
CREATE INDEX tasks_ready ON tasks (class, priority, id) WHERE state = 'queued' AND ready_ms IS NULL;
CREATE INDEX tasks_delayed ON tasks (ready_ms) WHERE state = 'queued' AND ready_ms IS NOT NULL;
CREATE INDEX tasks_held ON tasks (id) WHERE state IN ('assigned', 'running');
CREATE INDEX tasks_expire ON tasks (expires_ms) WHERE expires_ms IS NOT NULL AND state IN ('blocked', 'queued');
CREATE INDEX tasks_complete_by ON tasks (complete_by_ms)
    WHERE complete_by_ms IS NOT NULL AND ended_ms IS NULL;
CREATE INDEX tasks_troubled ON tasks (state, id) WHERE state IN ('blocked', 'waiting', 'failed', 'cancelled', 'dead');

CREATE TABLE specs (
    task TEXT PRIMARY KEY,
    spec BYTEA NOT NULL,
    tier BYTEA NOT NULL,
    by TEXT NOT NULL
);

CREATE TABLE attempts (
    task TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    agent TEXT NOT NULL,
    host TEXT NOT NULL,
    boot BIGINT NOT NULL,
    state TEXT NOT NULL,
    accepted BOOLEAN NOT NULL DEFAULT false,
    failure TEXT,
    reason TEXT NOT NULL DEFAULT '',
    assigned_ms BIGINT NOT NULL,
    started_ms BIGINT,
    ended_ms BIGINT,
    placement BYTEA NOT NULL,
    result BYTEA,
    PRIMARY KEY (task, epoch)
);
-- One accepted result a task: the promise, kept by the database itself.
CREATE UNIQUE INDEX attempts_accepted ON attempts (task) WHERE accepted;

CREATE TABLE dependencies (
    task TEXT NOT NULL,
    needs TEXT NOT NULL,
    PRIMARY KEY (needs, task)
);
CREATE INDEX dependencies_task ON dependencies (task);

CREATE TABLE idempotency (
    key TEXT PRIMARY KEY,
    digest BYTEA NOT NULL,
    ids TEXT NOT NULL,
    at_ms BIGINT NOT NULL
);

-- Kept in the same transactions as the rows, so that counting never scans.
CREATE TABLE counts (
    state TEXT PRIMARY KEY,
    n BIGINT NOT NULL
);

CREATE TABLE events (
    seq BIGINT PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    kind TEXT NOT NULL,
    task TEXT,
    agent TEXT,
    epoch BIGINT,
    facts TEXT
);
CREATE INDEX events_task ON events (task, seq) WHERE task IS NOT NULL;

CREATE TABLE logs (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    place BIGINT NOT NULL,
    stream TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX logs_task ON logs (task, seq);

CREATE TABLE agents (
    name TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    boot BIGINT NOT NULL,
    slots BIGINT NOT NULL,
    version TEXT NOT NULL,
    capabilities TEXT NOT NULL,
    draining BOOLEAN NOT NULL,
    last_seen_ms BIGINT NOT NULL
);

CREATE TABLE endpoints (
    id TEXT COLLATE "C" PRIMARY KEY,
    kind TEXT NOT NULL,
    url TEXT NOT NULL,
    local BOOLEAN NOT NULL,
    default_model TEXT NOT NULL
);

CREATE TABLE tokens (
    id TEXT COLLATE "C" PRIMARY KEY,
    role TEXT NOT NULL,
    label TEXT NOT NULL,
    digest BYTEA NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT,
    last_used_ms BIGINT,
    revoked_ms BIGINT
);

CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO facts (name, value) VALUES ('hub_boot', 0), ('event_seq', 0);

-- The last batch of each writer: tells after a lost connection whether it was committed.
CREATE TABLE batches (
    writer TEXT PRIMARY KEY,
    batch TEXT NOT NULL,
    at_ms BIGINT NOT NULL
);

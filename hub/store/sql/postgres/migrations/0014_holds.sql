-- Tasks that people hold up, or have held up: at most one row a task.
CREATE TABLE holds (
    task TEXT COLLATE "C" PRIMARY KEY,
    kind TEXT NOT NULL,
    by TEXT NOT NULL,
    reason TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    note TEXT NOT NULL DEFAULT '',
    ended_ms BIGINT,
    epoch BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX holds_open ON holds (task) WHERE ended_ms IS NULL;

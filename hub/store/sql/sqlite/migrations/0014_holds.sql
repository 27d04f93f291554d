-- Tasks that people hold up, or have held up: at most one row a task.
CREATE TABLE holds (
    task TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    by TEXT NOT NULL,
    reason TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    note TEXT NOT NULL DEFAULT '',
    ended_ms INTEGER,
    epoch INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX holds_open ON holds (task) WHERE ended_ms IS NULL;

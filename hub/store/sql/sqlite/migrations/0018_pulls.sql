-- Pull requests: one a task. A row is there from the commit in which the work ended that it offers.
CREATE TABLE pulls (
    task TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    project TEXT NOT NULL,
    state TEXT NOT NULL,
    body BLOB NOT NULL,
    next_ms INTEGER,
    changed_ms INTEGER NOT NULL,
    version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX pulls_due ON pulls (next_ms) WHERE next_ms IS NOT NULL;

-- Pull requests: one a task. A row is there from the commit in which the work ended that it offers.
CREATE TABLE pulls (
    task TEXT PRIMARY KEY,
    epoch BIGINT NOT NULL,
    project TEXT NOT NULL,
    state TEXT NOT NULL,
    body BYTEA NOT NULL,
    next_ms BIGINT,
    changed_ms BIGINT NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX pulls_due ON pulls (next_ms) WHERE next_ms IS NOT NULL;

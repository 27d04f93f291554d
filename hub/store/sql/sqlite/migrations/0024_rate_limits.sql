-- How often a class of requests may be asked for, by everybody (subject '') or with one token (its id), if not as usual.
CREATE TABLE rate_limits (
    subject TEXT NOT NULL,
    action TEXT NOT NULL,
    per_s REAL NOT NULL,
    burst INTEGER NOT NULL,
    changed_ms INTEGER NOT NULL,
    changed_by TEXT NOT NULL,
    PRIMARY KEY (subject, action)
) WITHOUT ROWID;

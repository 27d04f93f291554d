-- What people have decided about work that waited for them: one decision an attempt.
CREATE TABLE reviews (
    task TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    by TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (task, epoch)
) WITHOUT ROWID;

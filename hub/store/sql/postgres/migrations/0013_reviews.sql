-- What people have decided about work that waited for them: one decision an attempt.
CREATE TABLE reviews (
    task TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    verdict TEXT NOT NULL,
    by TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (task, epoch)
);

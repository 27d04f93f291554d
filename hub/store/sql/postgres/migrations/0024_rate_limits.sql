-- How often a class of requests may be asked for, by everybody (subject '') or with one token (its id), if not as usual.
CREATE TABLE rate_limits (
    subject TEXT COLLATE "C" NOT NULL,
    action TEXT COLLATE "C" NOT NULL,
    per_s DOUBLE PRECISION NOT NULL,
    burst BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    changed_by TEXT NOT NULL,
    PRIMARY KEY (subject, action)
);

-- Alerts, open and past; the log of those that have fired or ended; what people want of rules; and who is told.
CREATE TABLE alerts (
    id TEXT COLLATE "C" PRIMARY KEY,
    rule TEXT NOT NULL,
    severity TEXT NOT NULL,
    subject TEXT NOT NULL,
    state TEXT NOT NULL,
    summary TEXT NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    threshold DOUBLE PRECISION NOT NULL,
    since_ms BIGINT NOT NULL,
    until_ms BIGINT,
    changed_by TEXT NOT NULL,
    silent_ms BIGINT
);
CREATE INDEX alerts_open ON alerts (id) WHERE until_ms IS NULL;
CREATE INDEX alerts_past ON alerts (until_ms) WHERE until_ms IS NOT NULL;
CREATE TABLE alert_log (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert TEXT NOT NULL,
    what TEXT NOT NULL,
    at_ms BIGINT NOT NULL
);
CREATE INDEX alert_log_age ON alert_log (at_ms);
CREATE TABLE alert_rules (
    name TEXT COLLATE "C" PRIMARY KEY,
    body TEXT NOT NULL
);
CREATE TABLE notifiers (
    id TEXT COLLATE "C" PRIMARY KEY,
    kind TEXT NOT NULL,
    url TEXT NOT NULL,
    secret TEXT NOT NULL,
    label TEXT NOT NULL,
    least TEXT NOT NULL,
    told BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    next_ms BIGINT NOT NULL,
    problem TEXT NOT NULL
);

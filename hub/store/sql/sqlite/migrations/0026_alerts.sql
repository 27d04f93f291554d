-- Alerts, open and past; the log of those that have fired or ended; what people want of rules; and who is told.
CREATE TABLE alerts (
    id TEXT PRIMARY KEY,
    rule TEXT NOT NULL,
    severity TEXT NOT NULL,
    subject TEXT NOT NULL,
    state TEXT NOT NULL,
    summary TEXT NOT NULL,
    value REAL NOT NULL,
    threshold REAL NOT NULL,
    since_ms INTEGER NOT NULL,
    until_ms INTEGER,
    changed_by TEXT NOT NULL,
    silent_ms INTEGER
) WITHOUT ROWID;
CREATE INDEX alerts_open ON alerts (id) WHERE until_ms IS NULL;
CREATE INDEX alerts_past ON alerts (until_ms) WHERE until_ms IS NOT NULL;
CREATE TABLE alert_log (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    alert TEXT NOT NULL,
    what TEXT NOT NULL,
    at_ms INTEGER NOT NULL
);
CREATE INDEX alert_log_age ON alert_log (at_ms);
CREATE TABLE alert_rules (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE notifiers (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    url TEXT NOT NULL,
    secret TEXT NOT NULL,
    label TEXT NOT NULL,
    least TEXT NOT NULL,
    told INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    next_ms INTEGER NOT NULL,
    problem TEXT NOT NULL
) WITHOUT ROWID;

-- name: put_alert
INSERT INTO alerts (id, rule, severity, subject, state, summary, value, threshold, since_ms, until_ms, changed_by, silent_ms)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
ON CONFLICT (id) DO UPDATE SET severity = excluded.severity, state = excluded.state, summary = excluded.summary,
    value = excluded.value, until_ms = excluded.until_ms, changed_by = excluded.changed_by, silent_ms = excluded.silent_ms;

-- name: forget_alerts
DELETE FROM alerts WHERE until_ms < ?1;

-- name: open_alerts
SELECT id, rule, severity, subject, state, summary, value, threshold, since_ms, until_ms, changed_by, silent_ms
FROM alerts WHERE until_ms IS NULL ORDER BY id;

-- name: past_alerts
SELECT id, rule, severity, subject, state, summary, value, threshold, since_ms, until_ms, changed_by, silent_ms
FROM alerts WHERE until_ms IS NOT NULL AND id < ?1 ORDER BY id DESC LIMIT ?2;

-- name: add_alert_log
INSERT INTO alert_log (alert, what, at_ms) VALUES (?1, ?2, ?3);

-- name: forget_alert_log
DELETE FROM alert_log WHERE at_ms < ?1;

-- name: newest_alert_log
SELECT max(seq) FROM alert_log;

-- name: alert_log
SELECT l.seq, l.what, l.at_ms, a.id, a.rule, a.severity, a.subject, a.state, a.summary, a.value, a.threshold,
    a.since_ms, a.until_ms, a.changed_by, a.silent_ms
FROM alert_log l JOIN alerts a ON a.id = l.alert WHERE l.seq > ?1 ORDER BY l.seq LIMIT ?2;

-- name: put_rule
INSERT INTO alert_rules (name, body) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET body = excluded.body;

-- name: alert_rules
SELECT name, body FROM alert_rules ORDER BY name;

-- name: add_notifier
INSERT INTO notifiers (id, kind, url, secret, label, least, told, tries, next_ms, problem)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10);

-- name: mark_notifier
UPDATE notifiers SET told = ?2, tries = ?3, next_ms = ?4, problem = ?5 WHERE id = ?1;

-- name: remove_notifier
DELETE FROM notifiers WHERE id = ?1;

-- name: notifiers
SELECT id, kind, url, secret, label, least, told, tries, next_ms, problem FROM notifiers ORDER BY id;

-- name: add_event
INSERT OR FAIL INTO events (seq, at_ms, kind, task, agent, epoch, facts) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: events
SELECT seq, at_ms, kind, task, agent, epoch, facts FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2;

-- name: event_rows
-- As they are stored, up to a number.
SELECT seq, at_ms, kind, task, agent, epoch, facts FROM events WHERE seq > ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3;

-- name: events_of_task
SELECT seq, at_ms, kind, task, agent, epoch, facts FROM events WHERE task = ?3 AND seq > ?1 ORDER BY seq LIMIT ?2;

-- name: last_event
SELECT value FROM facts WHERE name = 'event_seq';

-- name: put_endpoint
INSERT INTO endpoints (id, kind, url, local, default_model, rpm, tpm) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (id) DO UPDATE SET kind = ?2, url = ?3, local = ?4, default_model = ?5, rpm = ?6, tpm = ?7;

-- name: remove_endpoint
DELETE FROM endpoints WHERE id = ?;

-- name: endpoints
SELECT id, kind, url, local, default_model, rpm, tpm FROM endpoints ORDER BY id;

-- name: put_health
INSERT INTO endpoint_health (host, id, seen, health) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (host, id) DO UPDATE SET seen = ?3, health = ?4;

-- name: forget_health
DELETE FROM endpoint_health WHERE host = ?1 AND id = ?2;

-- name: healths
SELECT host, seen, health FROM endpoint_health ORDER BY host, id;

-- name: add_token
INSERT INTO tokens (id, role, label, digest, created_ms, expires_ms, scope) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: revoke_token
UPDATE tokens SET revoked_ms = ?2 WHERE id = ?1 AND revoked_ms IS NULL;

-- name: touch_token
UPDATE tokens SET last_used_ms = ?2 WHERE id = ?1;

-- name: tokens
SELECT id, role, label, digest, created_ms, expires_ms, last_used_ms, revoked_ms, scope FROM tokens ORDER BY created_ms DESC, id;

-- name: guard
-- Around one change, when another one of its batch has turned out to be unwritable.
SAVEPOINT change;

-- name: undo
ROLLBACK TO SAVEPOINT change;

-- name: release
RELEASE SAVEPOINT change;

-- name: schema
-- The number of the last migration.
SELECT user_version FROM pragma_user_version;

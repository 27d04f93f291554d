-- name: add_event
INSERT INTO events (seq, at_ms, kind, task, agent, epoch, facts)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[]);

-- name: next_events
-- The number of the last of so many new events, and the last entry of the audit log, which goes on with them.
UPDATE facts SET value = value + $1 WHERE name = 'event_seq'
RETURNING value, (SELECT max(seq) FROM audit), (SELECT hash FROM audit WHERE seq = (SELECT max(seq) FROM audit));

-- name: events
SELECT seq, at_ms, kind, task, agent, epoch, facts FROM events WHERE seq > $1 ORDER BY seq LIMIT $2;

-- name: event_rows
-- As they are stored, up to a number.
SELECT seq, at_ms, kind, task, agent, epoch, facts FROM events WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3;

-- name: events_of_task
SELECT seq, at_ms, kind, task, agent, epoch, facts FROM events WHERE task = $3 AND seq > $1 ORDER BY seq LIMIT $2;

-- name: last_event
SELECT value FROM facts WHERE name = 'event_seq';

-- name: put_endpoint
INSERT INTO endpoints (id, kind, url, local, default_model, rpm, tpm) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO UPDATE SET kind = $2, url = $3, local = $4, default_model = $5, rpm = $6, tpm = $7;

-- name: remove_endpoint
DELETE FROM endpoints WHERE id = $1;

-- name: endpoints
SELECT id, kind, url, local, default_model, rpm, tpm FROM endpoints ORDER BY id;

-- name: put_health
INSERT INTO endpoint_health (host, id, seen, health) VALUES ($1, $2, $3, $4)
ON CONFLICT (host, id) DO UPDATE SET seen = $3, health = $4;

-- name: forget_health
DELETE FROM endpoint_health WHERE host = $1 AND id = $2;

-- name: healths
SELECT host, seen, health FROM endpoint_health ORDER BY host, id;

-- name: add_token
INSERT INTO tokens (id, role, label, digest, created_ms, expires_ms, scope) VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: revoke_token
UPDATE tokens SET revoked_ms = $2 WHERE id = $1 AND revoked_ms IS NULL;

-- name: touch_token
UPDATE tokens SET last_used_ms = $2 WHERE id = $1;

-- name: tokens
SELECT id, role, label, digest, created_ms, expires_ms, last_used_ms, revoked_ms, scope FROM tokens ORDER BY created_ms DESC, id;

-- name: guard
-- Around one change, when another one of its batch has turned out to be unwritable.
SAVEPOINT change;

-- name: undo
ROLLBACK TO SAVEPOINT change;

-- name: release
RELEASE SAVEPOINT change;

-- name: lock_batches
-- One batch at a time, over all hubs: from here to the commit nobody else numbers events or changes a row. After a lost
-- connection this waits until the transaction that was left behind has ended, one way or the other.
SELECT value FROM facts WHERE name = 'event_seq' FOR UPDATE;

-- name: mark_batch
-- In the transaction of the batch itself: if this row is there after a lost connection, so is the batch.
INSERT INTO batches (writer, batch, at_ms) VALUES ($1, $2, (extract(epoch FROM now()) * 1000)::bigint)
ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch, at_ms = excluded.at_ms;

-- name: find_batch
SELECT 1 FROM batches WHERE writer = $1 AND batch = $2;

-- name: forget_batches
-- Of hubs that ended long ago.
DELETE FROM batches WHERE at_ms < (extract(epoch FROM now() - interval '30 days') * 1000)::bigint;

-- name: notify
-- One a commit, however many events it has: every NOTIFY takes a lock of the whole cluster while it commits.
SELECT pg_notify('agentcom_events', $1);

-- name: schema
-- The number of the last migration.
SELECT coalesce(max(version), 0) FROM schema_version;

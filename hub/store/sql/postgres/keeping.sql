-- name: cursor
-- Where the log begins and ends, and whether a reader has really been at this event.
SELECT (SELECT value FROM facts WHERE name = 'event_floor'), (SELECT value FROM facts WHERE name = 'event_seq'),
    EXISTS (SELECT 1 FROM events WHERE seq = $1);

-- name: oldest_events
SELECT seq, at_ms FROM events WHERE seq > $1 ORDER BY seq LIMIT $2;

-- name: forget_events
DELETE FROM events WHERE seq <= $1;

-- name: raise_floor
UPDATE facts SET value = greatest(value, $1) WHERE name = 'event_floor';

-- name: walk_tasks
-- Every task in turn, whatever becomes of it: what may not go yet never stands before what may.
SELECT id, state, ended_ms FROM tasks WHERE id > $1 ORDER BY id LIMIT $2;

-- name: is_needed
-- Whether a task that has not ended was submitted to run after this one.
SELECT 1 FROM dependencies d JOIN tasks t ON t.id = d.task WHERE d.needs = $1 AND t.ended_ms IS NULL LIMIT 1;

-- name: forget_task
DELETE FROM tasks WHERE id = $1 AND state IN (SELECT value FROM json_array_elements_text($2::json)) AND ended_ms < $3
RETURNING state;

-- name: forget_spec
DELETE FROM specs WHERE task = $1;

-- name: forget_attempts
DELETE FROM attempts WHERE task = $1;

-- name: forget_dependencies
DELETE FROM dependencies WHERE task = $1 OR needs = $1;

-- name: walk_logs
SELECT seq, at_ms FROM logs WHERE seq > $1 ORDER BY seq LIMIT $2;

-- name: forget_logs
-- Not of a task that is still at work.
DELETE FROM logs WHERE seq > $1 AND seq <= $2 AND at_ms < $3
  AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id = logs.task AND tasks.ended_ms IS NULL);

-- name: forget_logs_of
DELETE FROM logs WHERE task = $1;

-- name: walk_keys
SELECT key, at_ms FROM idempotency WHERE key > $1 ORDER BY key LIMIT $2;

-- name: forget_key
DELETE FROM idempotency WHERE key = $1 AND at_ms < $2;

-- name: remove_agent
-- Not one that a hub has welcomed, that has work in hand, or about which a person has to decide.
DELETE FROM agents WHERE name = $1 AND quarantine = '' AND (hub IS NULL OR hub NOT IN (SELECT boot FROM hubs))
  AND NOT EXISTS (SELECT 1 FROM tasks WHERE agent = $1 AND state IN ('assigned', 'running'));

-- name: jump
-- After a restore: further ahead than whatever was given out and lost.
UPDATE facts SET value = value + $2 WHERE name = $1;

-- name: jump_epochs
UPDATE tasks SET epoch = epoch + $1 WHERE state NOT IN ('completed', 'failed', 'cancelled');

-- name: requeue_held
UPDATE tasks SET state = 'queued', agent = NULL, hub = NULL, reason = $1, ready_ms = NULL, queued_ms = $2, started_ms = NULL
WHERE state IN ('assigned', 'running');

-- name: lose_open_attempts
UPDATE attempts SET state = 'lost', failure = 'infra', reason = $1, ended_ms = $2 WHERE ended_ms IS NULL;

-- name: forget_copied
-- What was a copy is the store itself from now on.
UPDATE facts SET value = 0 WHERE name = 'copied_ms';

-- name: forget_all_hubs
DELETE FROM hubs;

-- name: free_agents
UPDATE agents SET hub = NULL;

-- name: jump_leaders
UPDATE leaders SET hub = NULL, until_ms = 0, epoch = epoch + $1;

-- name: open_hold
SELECT kind, by, reason FROM holds WHERE task = $1 AND ended_ms IS NULL;

-- name: put_hold
INSERT INTO holds (task, kind, by, reason, at_ms) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (task) DO UPDATE SET kind = excluded.kind, by = excluded.by, reason = excluded.reason,
    at_ms = excluded.at_ms, note = '', ended_ms = NULL, epoch = 0;

-- name: end_hold
UPDATE holds SET note = $2, ended_ms = $3, epoch = $4 WHERE task = $1 AND ended_ms IS NULL;

-- name: hold_task
UPDATE tasks SET state = 'waiting', reason = $2 WHERE id = $1 AND state = 'queued';

-- name: release_task
UPDATE tasks SET state = 'queued', agent = NULL, reason = '', queued_ms = $2, started_ms = NULL
WHERE id = $1 AND state = 'waiting'
RETURNING ready_ms;

-- name: hold
SELECT task, kind, by, reason, at_ms, note, ended_ms, epoch FROM holds WHERE task = $1;

-- name: open_holds
-- Of these tasks (a JSON list of ids) those that somebody holds up.
SELECT task, kind, by, reason, at_ms, note, ended_ms, epoch FROM holds
WHERE ended_ms IS NULL AND task IN (SELECT json_array_elements_text($1::json)) ORDER BY task;

-- name: held_up_in_hand
SELECT h.task, h.kind, h.by, h.reason FROM holds h
JOIN tasks t ON t.id = h.task WHERE h.ended_ms IS NULL AND t.state IN ('assigned', 'running');

-- name: forget_hold
DELETE FROM holds WHERE task = $1;

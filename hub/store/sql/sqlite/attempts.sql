-- name: add_attempt
-- Until it is known to have ended in good order, its agent may die of it.
INSERT OR FAIL INTO attempts (task, epoch, agent, host, boot, assigned_ms, placement, state, suspect)
VALUES (?, ?, ?, ?, ?, ?, ?, 'assigned', 1);

-- name: move_attempt
-- As write_task: an attempt that its task counts by is there.
INSERT OR FAIL INTO attempts (task, epoch, state, started_ms, agent, host, boot, assigned_ms, placement)
VALUES (?, ?, ?, ?, '', '', 0, 0, '')
ON CONFLICT (task, epoch) DO UPDATE SET state = excluded.state, started_ms = excluded.started_ms WHERE ended_ms IS NULL;

-- name: end_attempt
-- The ninth is whether it ended in good order.
INSERT OR FAIL INTO attempts (task, epoch, state, accepted, failure, reason, result, ended_ms, suspect, started_ms,
                              agent, host, boot, assigned_ms, placement)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', '', 0, 0, '')
ON CONFLICT (task, epoch) DO UPDATE SET state = excluded.state, accepted = excluded.accepted, failure = excluded.failure,
    reason = excluded.reason, result = excluded.result, ended_ms = excluded.ended_ms,
    suspect = CASE WHEN excluded.suspect THEN 0 ELSE suspect END, started_ms = coalesce(excluded.started_ms, started_ms)
WHERE ended_ms IS NULL;

-- name: end_one_attempt
-- As write_one_task.
UPDATE OR FAIL attempts SET state = ?3, accepted = ?4, failure = ?5, reason = ?6, result = ?7, ended_ms = ?8,
    suspect = CASE WHEN ?9 THEN 0 ELSE suspect END, started_ms = coalesce(?10, started_ms)
WHERE task = ?1 AND epoch = ?2 AND ended_ms IS NULL;

-- name: end_open_attempt
-- Of a task that is ended from outside, whether anybody has it in hand or not.
UPDATE attempts SET state = ?3, failure = ?4, reason = ?5, ended_ms = ?6
WHERE task = ?1 AND epoch = ?2 AND ended_ms IS NULL;

-- name: attempts
SELECT task, epoch, agent, host, boot, state, accepted, failure, reason, assigned_ms, started_ms, ended_ms, placement,
    result, suspect
FROM attempts WHERE task = ? ORDER BY epoch;

-- name: last_logs
-- Where the newest piece of an attempt lies: one that lies behind it is new.
SELECT w.column1, w.column2,
    (SELECT place FROM logs WHERE task = w.column1 AND epoch = w.column2 ORDER BY seq DESC LIMIT 1)
FROM (VALUES (?, ?)) AS w;

-- name: find_log
SELECT 1 FROM logs WHERE task = ?1 AND epoch = ?2 AND place = ?3 AND stream = ?4 AND text = ?5 LIMIT 1;

-- name: add_log
INSERT INTO logs (task, epoch, at_ms, place, stream, text) VALUES (?, ?, ?, ?, ?, ?);

-- name: logs
SELECT seq, at_ms, epoch, stream, text FROM logs WHERE task = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3;

-- name: logs_before
SELECT seq, at_ms, epoch, stream, text FROM logs WHERE task = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3;

-- name: output
-- Of all tasks, as it comes.
SELECT l.seq, l.at_ms, l.epoch, l.stream, l.text, l.task, t.title, t.labels, a.agent
FROM logs l JOIN tasks t ON t.id = l.task JOIN attempts a ON a.task = l.task AND a.epoch = l.epoch
WHERE l.seq > ?1 ORDER BY l.seq LIMIT ?2;

-- name: newest_output
SELECT max(seq) FROM logs;

-- name: reopen_attempts
-- A dead letter that runs again may have another result accepted; the old one stays in the history.
UPDATE attempts SET accepted = 0, suspect = 0 WHERE task = ? AND (accepted = 1 OR suspect = 1);

-- name: deaths
-- Attempts with which their agents died, as far as anybody knows.
SELECT epoch, agent, host, boot FROM attempts WHERE task = ?1 AND suspect = 1 ORDER BY epoch;

-- name: exonerate
UPDATE attempts SET suspect = 0
WHERE task = ?1 AND epoch = ?2 AND agent = ?3 AND boot = ?4 AND suspect = 1;

-- name: add_attempt
-- Until it is known to have ended in good order, its agent may die of it.
INSERT INTO attempts (task, epoch, agent, host, boot, state, assigned_ms, placement, suspect)
VALUES ($1, $2, $3, $4, $5, 'assigned', $6, $7, true);

-- name: start_attempt
UPDATE attempts SET state = 'accepted', started_ms = $3 WHERE task = $1 AND epoch = $2 AND ended_ms IS NULL;

-- name: advance_attempt
UPDATE attempts SET state = $3 WHERE task = $1 AND epoch = $2 AND ended_ms IS NULL AND started_ms IS NOT NULL
  AND EXISTS (SELECT 1 FROM tasks WHERE id = $1 AND epoch = $2 AND hub = $4)
RETURNING agent;

-- name: end_attempt
UPDATE attempts SET state = $3, accepted = $4, failure = $5, reason = $6, result = $7, ended_ms = $8,
    suspect = CASE WHEN $9 THEN false ELSE suspect END
WHERE task = $1 AND epoch = $2 AND ended_ms IS NULL
RETURNING agent;

-- name: attempts
SELECT task, epoch, agent, host, boot, state, accepted, failure, reason, assigned_ms, started_ms, ended_ms, placement,
    result, suspect
FROM attempts WHERE task = $1 ORDER BY epoch;

-- name: last_log
-- Where the newest piece of an attempt lies: one that lies behind it is new.
SELECT place FROM logs WHERE task = $1 AND epoch = $2 ORDER BY seq DESC LIMIT 1;

-- name: find_log
SELECT 1 FROM logs WHERE task = $1 AND epoch = $2 AND place = $3 AND stream = $4 AND text = $5 LIMIT 1;

-- name: add_log
-- Stored only for an attempt that has not ended, by its hub: a task has a hub as long as it is in somebody's hands.
INSERT INTO logs (task, epoch, at_ms, place, stream, text)
SELECT $1, $2::bigint, $3::bigint, $4::bigint, $5, $6
WHERE EXISTS (SELECT 1 FROM tasks WHERE id = $1 AND epoch = $2 AND hub = $7);

-- name: logs
SELECT seq, at_ms, epoch, stream, text FROM logs WHERE task = $1 AND seq > $2 ORDER BY seq LIMIT $3;

-- name: reopen_attempts
-- A dead letter that runs again may have another result accepted; the old one stays in the history.
UPDATE attempts SET accepted = false, suspect = false WHERE task = $1 AND (accepted OR suspect);

-- name: deaths
-- Attempts with which their agents died, as far as anybody knows.
SELECT epoch, agent, host, boot FROM attempts WHERE task = $1 AND suspect ORDER BY epoch;

-- name: exonerate
UPDATE attempts SET suspect = false
WHERE task = $1 AND epoch = $2 AND agent = $3 AND boot = $4 AND suspect;

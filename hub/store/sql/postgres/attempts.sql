-- name: add_attempt
-- Until it is known to have ended in good order, its agent may die of it.
INSERT INTO attempts (task, epoch, agent, host, boot, assigned_ms, placement, state, suspect)
SELECT *, 'assigned', true
FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bytea[]);

-- name: move_attempt
UPDATE attempts SET state = u.state, started_ms = u.started_ms
FROM unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[]) AS u (task, epoch, state, started_ms)
WHERE attempts.task = u.task AND attempts.epoch = u.epoch AND ended_ms IS NULL;

-- name: end_attempt
UPDATE attempts SET state = u.state, accepted = u.accepted, failure = u.failure, reason = u.reason, result = u.result,
    ended_ms = u.ended_ms, suspect = attempts.suspect AND NOT u.is_orderly,
    started_ms = coalesce(u.started_ms, attempts.started_ms)
FROM unnest($1::text[], $2::bigint[], $3::text[], $4::boolean[], $5::text[], $6::text[], $7::bytea[], $8::bigint[],
            $9::boolean[], $10::bigint[])
    AS u (task, epoch, state, accepted, failure, reason, result, ended_ms, is_orderly, started_ms)
WHERE attempts.task = u.task AND attempts.epoch = u.epoch AND attempts.ended_ms IS NULL;

-- name: end_open_attempt
-- Of a task that is ended from outside, whether anybody has it in hand or not.
UPDATE attempts SET state = $3, failure = $4, reason = $5, ended_ms = $6
WHERE task = $1 AND epoch = $2 AND ended_ms IS NULL;

-- name: attempts
SELECT task, epoch, agent, host, boot, state, accepted, failure, reason, assigned_ms, started_ms, ended_ms, placement,
    result, suspect
FROM attempts WHERE task = $1 ORDER BY epoch;

-- name: last_logs
-- Where the newest piece of an attempt lies: one that lies behind it is new.
SELECT u.task, u.epoch, last.place FROM unnest($1::text[], $2::bigint[]) AS u (task, epoch)
CROSS JOIN LATERAL (SELECT place FROM logs WHERE logs.task = u.task AND logs.epoch = u.epoch
                    ORDER BY seq DESC LIMIT 1) AS last;

-- name: find_log
SELECT 1 FROM logs WHERE task = $1 AND epoch = $2 AND place = $3 AND stream = $4 AND text = $5 LIMIT 1;

-- name: add_log
INSERT INTO logs (task, epoch, at_ms, place, stream, text)
SELECT u.task, u.epoch, u.at_ms, u.place, u.stream, u.text
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[])
    WITH ORDINALITY AS u (task, epoch, at_ms, place, stream, text, number)
ORDER BY u.number;

-- name: logs
SELECT seq, at_ms, epoch, stream, text FROM logs WHERE task = $1 AND seq > $2 ORDER BY seq LIMIT $3;

-- name: logs_before
SELECT seq, at_ms, epoch, stream, text FROM logs WHERE task = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3;

-- name: output
-- Of all tasks, as it comes.
SELECT l.seq, l.at_ms, l.epoch, l.stream, l.text, l.task, t.title, t.labels, a.agent
FROM logs l JOIN tasks t ON t.id = l.task JOIN attempts a ON a.task = l.task AND a.epoch = l.epoch
WHERE l.seq > $1 ORDER BY l.seq LIMIT $2;

-- name: newest_output
SELECT max(seq) FROM logs;

-- name: reopen_attempts
-- A dead letter that runs again may have another result accepted; the old one stays in the history.
UPDATE attempts SET accepted = false, suspect = false WHERE task = $1 AND (accepted OR suspect);

-- name: deaths
-- Attempts with which their agents died, as far as anybody knows.
SELECT epoch, agent, host, boot FROM attempts WHERE task = $1 AND suspect ORDER BY epoch;

-- name: exonerate
UPDATE attempts SET suspect = false
WHERE task = $1 AND epoch = $2 AND agent = $3 AND boot = $4 AND suspect;

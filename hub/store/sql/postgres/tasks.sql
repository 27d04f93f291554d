-- name: add_task
INSERT INTO tasks (id, state, class, priority, epoch, agent, hub, title, labels, parent, max_retries, ready_ms,
                   expires_ms, complete_by_ms, submitted_ms, queued_ms, tier, model, folded)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[],
                     $8::text[], $9::text[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[],
                     $15::bigint[], $16::bigint[], $17::text[], $18::text[], $19::text[]);

-- name: add_spec
INSERT INTO specs (task, spec, tier, by, checks)
SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::text[], $5::text[]);

-- name: add_dependency
INSERT INTO dependencies (task, needs) SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT DO NOTHING;

-- name: task_state
SELECT state, epoch, agent, class, priority, hub FROM tasks WHERE id = $1;

-- name: find_tasks
-- What the verbs of the daily work decide on (``Draft`` has these columns in this order).
-- Ids of tasks are compared byte by byte, those of other tables are not: their index wants to be asked its own way.
SELECT id, state, class, priority, epoch, agent, hub, retries, max_retries, infra_failures, ready_ms, queued_ms,
    started_ms, ended_ms, execution_ok, verified, reason, model,
    EXISTS (SELECT 1 FROM dependencies WHERE needs = id COLLATE "default")
FROM tasks WHERE id = ANY ($1::text[]);

-- name: find_specs
SELECT task, spec, tier FROM specs WHERE task = ANY ($1::text[]);

-- name: find_willing
SELECT name, draining, leaving, hub, boot FROM agents WHERE name = ANY ($1::text[]);

-- name: find_keys
SELECT key, digest, ids FROM idempotency WHERE key = ANY ($1::text[]);

-- name: add_key
INSERT INTO idempotency (key, digest, ids, at_ms)
SELECT * FROM unnest($1::text[], $2::bytea[], $3::text[], $4::bigint[]);

-- name: spec
SELECT spec, tier FROM specs WHERE task = $1;

-- name: write_task
-- A task as a batch leaves it. That it may was decided on its row, in the same transaction.
UPDATE tasks SET state = u.state, class = u.class, epoch = u.epoch, agent = u.agent, hub = u.hub, retries = u.retries,
    infra_failures = u.infra_failures, ready_ms = u.ready_ms, queued_ms = u.queued_ms, started_ms = u.started_ms,
    ended_ms = u.ended_ms, execution_ok = u.execution_ok, verified = u.verified, reason = u.reason,
    model = u.model
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[],
            $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::boolean[], $14::boolean[], $15::text[],
            $16::text[])
    AS u (id, state, class, epoch, agent, hub, retries, infra_failures, ready_ms, queued_ms, started_ms, ended_ms,
          execution_ok, verified, reason, model)
WHERE tasks.id = u.id;

-- name: end_task
UPDATE tasks SET state = $3, hub = NULL, reason = $4, ended_ms = $5, ready_ms = NULL WHERE id = $1 AND state = $2;

-- name: retry_task
-- Whoever wants it again knows that its deadline has passed; it would only expire at once.
UPDATE tasks SET state = 'queued', agent = NULL, class = $3, retries = 0, infra_failures = 0, reason = '',
    execution_ok = NULL,
    verified = NULL, ready_ms = NULL, queued_ms = $2, started_ms = NULL, ended_ms = NULL, expires_ms = NULL,
    complete_by_ms = CASE WHEN complete_by_ms <= $2 THEN NULL ELSE complete_by_ms END
WHERE id = $1 AND state = 'dead'
RETURNING class, priority;

-- name: prioritise_task
UPDATE tasks SET priority = $2 WHERE id = $1 AND ended_ms IS NULL
RETURNING state, class, ready_ms;

-- name: due_tasks
-- Also those that wait after a failure until a time beyond the longest delay: the clock has been set back since.
SELECT id, class, priority FROM tasks WHERE state = 'queued' AND ready_ms IS NOT NULL
    AND (ready_ms <= $1 OR (ready_ms > $3 AND retries + infra_failures > 0))
ORDER BY ready_ms LIMIT $2;

-- name: promote
UPDATE tasks SET ready_ms = NULL WHERE id = $1 AND state = 'queued';

-- name: next_ready
SELECT min(ready_ms) FROM tasks WHERE state = 'queued' AND ready_ms IS NOT NULL;

-- name: expired_tasks
SELECT id, state, epoch, agent, class, 'ttl_s has passed' AS why FROM tasks
WHERE expires_ms IS NOT NULL AND state IN ('blocked', 'queued') AND expires_ms <= $1
UNION ALL
SELECT id, state, epoch, agent, class, 'complete_by has passed' AS why FROM tasks
WHERE complete_by_ms IS NOT NULL AND ended_ms IS NULL AND complete_by_ms <= $1
LIMIT $2;

-- name: next_deadline
SELECT min(due_ms) FROM (
    SELECT min(expires_ms) AS due_ms FROM tasks WHERE expires_ms IS NOT NULL AND state IN ('blocked', 'queued')
    UNION ALL
    SELECT min(complete_by_ms) AS due_ms FROM tasks WHERE complete_by_ms IS NOT NULL AND ended_ms IS NULL
) AS deadlines;

-- name: read_class
SELECT priority, id FROM tasks
WHERE state = 'queued' AND ready_ms IS NULL AND class = $1 AND (priority, id) > ($2, $3)
ORDER BY priority, id LIMIT $4;

-- name: ahead
WITH RECURSIVE classes (class, number) AS (
    SELECT min(class), 1 FROM tasks WHERE state = 'queued' AND ready_ms IS NULL
    UNION ALL
    SELECT (SELECT min(class) FROM tasks WHERE state = 'queued' AND ready_ms IS NULL AND class > classes.class), number + 1
    FROM classes WHERE classes.class IS NOT NULL AND number < 100
)
SELECT $1::text, count(*) FROM (
    SELECT 1 FROM tasks WHERE state = 'queued' AND ready_ms IS NULL AND class = $1 AND (priority, id) < ($2, $3)
    LIMIT 10000
) AS first
UNION ALL
SELECT class, (
    SELECT count(*) FROM (
        SELECT 1 FROM tasks
        WHERE state = 'queued' AND ready_ms IS NULL AND class = classes.class AND (priority, id) < ($2, $3)
        LIMIT 1000
    ) AS first
) FROM classes WHERE class <> $1;

-- name: between
SELECT count(*) FROM (
    SELECT 1 FROM tasks
    WHERE state = 'queued' AND ready_ms IS NULL AND class = $1 AND (priority, id) > ($2, $3) AND (priority, id) < ($4, $5)
    LIMIT 10000
) AS first;

-- name: first_class
SELECT min(class) FROM tasks WHERE state = 'queued' AND ready_ms IS NULL;

-- name: next_class
SELECT min(class) FROM tasks WHERE state = 'queued' AND ready_ms IS NULL AND class > $1;

-- name: dependents
SELECT task FROM dependencies WHERE needs = $1;

-- name: open_needs
SELECT d.needs, t.state FROM dependencies d JOIN tasks t ON t.id = d.needs
WHERE d.task = $1 AND t.state <> 'completed';

-- name: soon
SELECT t.id, t.class FROM dependencies d JOIN tasks t ON t.id = d.task
WHERE d.needs = $1 AND t.state = 'blocked' AND NOT EXISTS (
    SELECT 1 FROM dependencies o JOIN tasks n ON n.id = o.needs
    WHERE o.task = d.task AND o.needs <> $1 AND n.state <> 'completed'
)
LIMIT $2;

-- name: unblock
UPDATE tasks SET state = 'queued', queued_ms = $2, reason = '' WHERE id = $1 AND state = 'blocked'
RETURNING class, priority, ready_ms;

-- name: task
SELECT id, state, class, priority, epoch, agent, title, labels, retries, max_retries, infra_failures, ready_ms,
    submitted_ms, queued_ms, started_ms, ended_ms, execution_ok, verified, reason, hub, tier, model
FROM tasks WHERE id = $1;

-- name: list_tasks
-- A label is looked for as it is written: no value can hold an unescaped quote, so this finds whole labels only.
SELECT id, state, class, priority, epoch, agent, title, labels, retries, max_retries, infra_failures, ready_ms,
    submitted_ms, queued_ms, started_ms, ended_ms, execution_ok, verified, reason, hub, tier, model
FROM tasks
WHERE ($1::text IS NULL OR id < $1)
  AND ($2::text IS NULL OR state IN (SELECT json_array_elements_text($2::json)))
  AND ($3::text IS NULL OR agent = $3)
  AND ($4::text IS NULL OR strpos(labels, $4) > 0)
  AND ($6::text IS NULL OR strpos(coalesce(folded, lower(title COLLATE "C")), $6) > 0
       OR (length($6) >= 8 AND strpos(id, $6) > 0))
  AND ($7::text IS NULL OR priority IN (SELECT json_array_elements_text($7::json)::bigint))
  AND ($8::text IS NULL OR tier IN (SELECT json_array_elements_text($8::json)))
  AND ($9::text IS NULL OR model = $9)
ORDER BY id DESC LIMIT $5;

-- name: list_settled
-- Of one state that is neither queued nor held: straight from its index, whatever else there is.
SELECT id, state, class, priority, epoch, agent, title, labels, retries, max_retries, infra_failures, ready_ms,
    submitted_ms, queued_ms, started_ms, ended_ms, execution_ok, verified, reason, hub, tier, model
FROM tasks
WHERE state = $2::text AND state <> 'queued' AND state <> 'assigned' AND state <> 'running' AND id < $1
  AND ($3::text IS NULL OR agent = $3)
  AND ($4::text IS NULL OR strpos(labels, $4) > 0)
  AND ($6::text IS NULL OR strpos(coalesce(folded, lower(title COLLATE "C")), $6) > 0
       OR (length($6) >= 8 AND strpos(id, $6) > 0))
  AND ($7::text IS NULL OR priority IN (SELECT json_array_elements_text($7::json)::bigint))
  AND ($8::text IS NULL OR tier IN (SELECT json_array_elements_text($8::json)))
  AND ($9::text IS NULL OR model = $9)
ORDER BY id DESC LIMIT $5;

-- name: list_held
-- Few at any time, and the oldest of those that wait: found by their index, then put in order.
WITH held AS MATERIALIZED (
    SELECT * FROM tasks WHERE state IN ('assigned', 'running')
)
SELECT id, state, class, priority, epoch, agent, title, labels, retries, max_retries, infra_failures, ready_ms,
    submitted_ms, queued_ms, started_ms, ended_ms, execution_ok, verified, reason, hub, tier, model
FROM held
WHERE state IN (SELECT json_array_elements_text($2::json)) AND id < $1
  AND ($3::text IS NULL OR agent = $3)
  AND ($4::text IS NULL OR strpos(labels, $4) > 0)
  AND ($6::text IS NULL OR strpos(coalesce(folded, lower(title COLLATE "C")), $6) > 0
       OR (length($6) >= 8 AND strpos(id, $6) > 0))
  AND ($7::text IS NULL OR priority IN (SELECT json_array_elements_text($7::json)::bigint))
  AND ($8::text IS NULL OR tier IN (SELECT json_array_elements_text($8::json)))
  AND ($9::text IS NULL OR model = $9)
ORDER BY id DESC LIMIT $5;

-- name: list_queued
-- For a short queue under a long history; a long one is found by list_tasks at once.
WITH waiting AS MATERIALIZED (
    SELECT * FROM tasks WHERE state = 'queued' AND ready_ms IS NULL
    UNION ALL
    SELECT * FROM tasks WHERE state = 'queued' AND ready_ms IS NOT NULL
)
SELECT id, state, class, priority, epoch, agent, title, labels, retries, max_retries, infra_failures, ready_ms,
    submitted_ms, queued_ms, started_ms, ended_ms, execution_ok, verified, reason, hub, tier, model
FROM waiting
WHERE $2::text = 'queued' AND id < $1::text
  AND ($3::text IS NULL OR agent = $3)
  AND ($4::text IS NULL OR strpos(labels, $4) > 0)
  AND ($6::text IS NULL OR strpos(coalesce(folded, lower(title COLLATE "C")), $6) > 0
       OR (length($6) >= 8 AND strpos(id, $6) > 0))
  AND ($7::text IS NULL OR priority IN (SELECT json_array_elements_text($7::json)::bigint))
  AND ($8::text IS NULL OR tier IN (SELECT json_array_elements_text($8::json)))
  AND ($9::text IS NULL OR model = $9)
ORDER BY id DESC LIMIT $5;

-- name: list_sight
-- What is rare among many. The server reads all tasks for it, on several cores where that helps.
SELECT id, state, class, priority, epoch, agent, title, labels, retries, max_retries, infra_failures, ready_ms,
    submitted_ms, queued_ms, started_ms, ended_ms, execution_ok, verified, reason, hub, tier, model
FROM tasks
WHERE state IN (SELECT json_array_elements_text($2::json)) AND id < $1
  AND ($3::text IS NULL OR agent = $3)
  AND ($4::text IS NULL OR strpos(labels, $4) > 0)
  AND ($6::text IS NULL OR strpos(coalesce(folded, lower(title COLLATE "C")), $6) > 0
       OR (length($6) >= 8 AND strpos(id, $6) > 0))
  AND ($7::text IS NULL OR priority IN (SELECT json_array_elements_text($7::json)::bigint))
  AND ($8::text IS NULL OR tier IN (SELECT json_array_elements_text($8::json)))
  AND ($9::text IS NULL OR model = $9)
ORDER BY id DESC LIMIT $5;

-- name: facets
SELECT state, priority, tier, agent, model, count(*) FROM tasks
WHERE ($1::text IS NULL OR strpos(labels, $1) > 0)
  AND ($2::text IS NULL OR strpos(coalesce(folded, lower(title COLLATE "C")), $2) > 0
       OR (length($2) >= 8 AND strpos(id, $2) > 0))
GROUP BY state, priority, tier, agent, model;

-- name: label_sets
SELECT labels, count(*) FROM tasks
WHERE labels <> '{}' AND ($1::text IS NULL OR state IN (SELECT json_array_elements_text($1::json)))
  AND ($2::text IS NULL OR agent = $2)
  AND ($3::text IS NULL OR strpos(coalesce(folded, lower(title COLLATE "C")), $3) > 0
       OR (length($3) >= 8 AND strpos(id, $3) > 0))
  AND ($4::text IS NULL OR priority IN (SELECT json_array_elements_text($4::json)::bigint))
  AND ($5::text IS NULL OR tier IN (SELECT json_array_elements_text($5::json)))
  AND ($6::text IS NULL OR model = $6)
GROUP BY labels ORDER BY count(*) DESC, labels COLLATE "C" LIMIT 1000;

-- name: last_task
SELECT max(id) FROM tasks;

-- name: counts
SELECT state, n FROM counts;

-- name: add_count
INSERT INTO counts (state, n) SELECT * FROM unnest($1::text[], $2::bigint[])
ON CONFLICT (state) DO UPDATE SET n = counts.n + excluded.n;

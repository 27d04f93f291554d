-- name: add_task
-- OR FAIL, as in all that a batch writes at its end: a batch that is refused is undone as a whole, so no statement has to
-- be able to undo itself, for which SQLite would copy every page before it changes.
INSERT OR FAIL INTO tasks (id, state, class, priority, epoch, agent, hub, title, labels, parent, max_retries, ready_ms,
                   expires_ms, complete_by_ms, submitted_ms, queued_ms, tier, model, folded)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: add_spec
INSERT OR FAIL INTO specs (task, spec, tier, by, checks) VALUES (?, ?, ?, ?, ?);

-- name: add_dependency
INSERT OR IGNORE INTO dependencies (task, needs) VALUES (?, ?);

-- name: task_state
SELECT state, epoch, agent, class, priority, hub FROM tasks WHERE id = ?;

-- name: find_tasks
-- What the verbs of the daily work decide on (``Draft`` has these columns in this order). CROSS: each is looked up by
-- its key, however many are asked for.
SELECT id, state, class, priority, epoch, agent, hub, retries, max_retries, infra_failures, ready_ms, queued_ms,
    started_ms, ended_ms, execution_ok, verified, reason, model, EXISTS (SELECT 1 FROM dependencies WHERE needs = id)
FROM (VALUES (?)) AS w CROSS JOIN tasks WHERE id = w.column1;

-- name: find_specs
SELECT task, spec, tier FROM (VALUES (?)) AS w CROSS JOIN specs WHERE task = w.column1;

-- name: find_willing
SELECT name, draining, leaving, hub, boot FROM (VALUES (?)) AS w CROSS JOIN agents WHERE name = w.column1;

-- name: find_keys
SELECT key, digest, ids FROM (VALUES (?)) AS w CROSS JOIN idempotency WHERE key = w.column1;

-- name: add_key
INSERT INTO idempotency (key, digest, ids, at_ms) VALUES (?, ?, ?, ?);

-- name: spec
SELECT spec, tier FROM specs WHERE task = ?;

-- name: write_task
-- A task as a batch leaves it. That it may was decided on its row, which nobody else writes: so the row is there, and
-- nothing is inserted. An UPDATE FROM these values would first put them into a table of their own.
INSERT OR FAIL INTO tasks (id, state, class, epoch, agent, hub, retries, infra_failures, ready_ms, queued_ms,
                           started_ms, ended_ms, execution_ok, verified, reason, model,
                           priority, title, labels, max_retries, submitted_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '', '', 0, 0)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, class = excluded.class, epoch = excluded.epoch,
    agent = excluded.agent, hub = excluded.hub, retries = excluded.retries, infra_failures = excluded.infra_failures,
    ready_ms = excluded.ready_ms, queued_ms = excluded.queued_ms, started_ms = excluded.started_ms,
    ended_ms = excluded.ended_ms, execution_ok = excluded.execution_ok, verified = excluded.verified,
    reason = excluded.reason, model = excluded.model;

-- name: write_one_task
-- The same of a task that is alone: here nothing has to be able to undo itself, and no row is made that is not kept.
UPDATE OR FAIL tasks SET state = ?2, class = ?3, epoch = ?4, agent = ?5, hub = ?6, retries = ?7, infra_failures = ?8,
    ready_ms = ?9, queued_ms = ?10, started_ms = ?11, ended_ms = ?12, execution_ok = ?13, verified = ?14, reason = ?15,
    model = ?16
WHERE id = ?1;

-- name: end_task
UPDATE tasks SET state = ?3, hub = NULL, reason = ?4, ended_ms = ?5, ready_ms = NULL WHERE id = ?1 AND state = ?2;

-- name: retry_task
-- Whoever wants it again knows that its deadline has passed; it would only expire at once.
UPDATE tasks SET state = 'queued', agent = NULL, class = ?3, retries = 0, infra_failures = 0, reason = '',
    execution_ok = NULL,
    verified = NULL, ready_ms = NULL, queued_ms = ?2, started_ms = NULL, ended_ms = NULL, expires_ms = NULL,
    complete_by_ms = CASE WHEN complete_by_ms <= ?2 THEN NULL ELSE complete_by_ms END
WHERE id = ?1 AND state = 'dead'
RETURNING class, priority;

-- name: prioritise_task
UPDATE tasks SET priority = ?2 WHERE id = ?1 AND ended_ms IS NULL
RETURNING state, class, ready_ms;

-- name: due_tasks
-- Also those that wait after a failure until a time beyond the longest delay: the clock has been set back since.
SELECT id, class, priority FROM tasks WHERE state = 'queued' AND ready_ms IS NOT NULL
    AND (ready_ms <= ?1 OR (ready_ms > ?3 AND retries + infra_failures > 0))
ORDER BY ready_ms LIMIT ?2;

-- name: promote
UPDATE tasks SET ready_ms = NULL WHERE id = ? AND state = 'queued';

-- name: next_ready
SELECT min(ready_ms) FROM tasks WHERE state = 'queued' AND ready_ms IS NOT NULL;

-- name: expired_tasks
SELECT id, state, epoch, agent, class, 'ttl_s has passed' AS why FROM tasks
WHERE expires_ms IS NOT NULL AND state IN ('blocked', 'queued') AND expires_ms <= ?1
UNION ALL
SELECT id, state, epoch, agent, class, 'complete_by has passed' AS why FROM tasks
WHERE complete_by_ms IS NOT NULL AND ended_ms IS NULL AND complete_by_ms <= ?1
LIMIT ?2;

-- name: next_deadline
SELECT min(at) FROM (
    SELECT min(expires_ms) AS at FROM tasks WHERE expires_ms IS NOT NULL AND state IN ('blocked', 'queued')
    UNION ALL
    SELECT min(complete_by_ms) AS at FROM tasks WHERE complete_by_ms IS NOT NULL AND ended_ms IS NULL
);

-- name: read_class
SELECT priority, id FROM tasks
WHERE state = 'queued' AND ready_ms IS NULL AND class = ?1 AND (priority, id) > (?2, ?3)
ORDER BY priority, id LIMIT ?4;

-- name: ahead
WITH RECURSIVE classes (class, number) AS (
    SELECT min(class), 1 FROM tasks WHERE state = 'queued' AND ready_ms IS NULL
    UNION ALL
    SELECT (SELECT min(class) FROM tasks WHERE state = 'queued' AND ready_ms IS NULL AND class > classes.class), number + 1
    FROM classes WHERE classes.class IS NOT NULL AND number < 100
)
SELECT ?1, count(*) FROM (
    SELECT 1 FROM tasks WHERE state = 'queued' AND ready_ms IS NULL AND class = ?1 AND (priority, id) < (?2, ?3)
    LIMIT 10000
)
UNION ALL
SELECT class, (
    SELECT count(*) FROM (
        SELECT 1 FROM tasks
        WHERE state = 'queued' AND ready_ms IS NULL AND class = classes.class AND (priority, id) < (?2, ?3)
        LIMIT 1000
    )
) FROM classes WHERE class <> ?1;

-- name: between
SELECT count(*) FROM (
    SELECT 1 FROM tasks
    WHERE state = 'queued' AND ready_ms IS NULL AND class = ?1 AND (priority, id) > (?2, ?3) AND (priority, id) < (?4, ?5)
    LIMIT 10000
);

-- name: first_class
SELECT min(class) FROM tasks WHERE state = 'queued' AND ready_ms IS NULL;

-- name: next_class
SELECT min(class) FROM tasks WHERE state = 'queued' AND ready_ms IS NULL AND class > ?;

-- name: dependents
SELECT task FROM dependencies WHERE needs = ?;

-- name: open_needs
SELECT d.needs, t.state FROM dependencies d JOIN tasks t ON t.id = d.needs
WHERE d.task = ? AND t.state <> 'completed';

-- name: soon
SELECT t.id, t.class FROM dependencies d JOIN tasks t ON t.id = d.task
WHERE d.needs = ?1 AND t.state = 'blocked' AND NOT EXISTS (
    SELECT 1 FROM dependencies o JOIN tasks n ON n.id = o.needs
    WHERE o.task = d.task AND o.needs <> ?1 AND n.state <> 'completed'
)
LIMIT ?2;

-- name: unblock
UPDATE tasks SET state = 'queued', queued_ms = ?2, reason = '' WHERE id = ?1 AND state = 'blocked'
RETURNING class, priority, ready_ms;

-- name: task
SELECT id, state, class, priority, epoch, agent, title, labels, retries, max_retries, infra_failures, ready_ms,
    submitted_ms, queued_ms, started_ms, ended_ms, execution_ok, verified, reason, hub, tier, model
FROM tasks WHERE id = ?;

-- name: list_tasks
-- A label is looked for as it is written: no value can hold an unescaped quote, so this finds whole labels only.
SELECT id, state, class, priority, epoch, agent, title, labels, retries, max_retries, infra_failures, ready_ms,
    submitted_ms, queued_ms, started_ms, ended_ms, execution_ok, verified, reason, hub, tier, model
FROM tasks
WHERE (?1 IS NULL OR id < ?1)
  AND (?2 IS NULL OR state IN (SELECT value FROM json_each(?2)))
  AND (?3 IS NULL OR agent = ?3)
  AND (?4 IS NULL OR instr(labels, ?4) > 0)
  AND (?6 IS NULL OR instr(coalesce(folded, lower(title)), ?6) > 0 OR (length(?6) >= 8 AND instr(id, ?6) > 0))
  AND (?7 IS NULL OR priority IN (SELECT value FROM json_each(?7)))
  AND (?8 IS NULL OR tier IN (SELECT value FROM json_each(?8)))
  AND (?9 IS NULL OR model = ?9)
ORDER BY id DESC LIMIT ?5;

-- name: list_settled
-- Of one state that is neither queued nor held: straight from its index, whatever else there is.
SELECT id, state, class, priority, epoch, agent, title, labels, retries, max_retries, infra_failures, ready_ms,
    submitted_ms, queued_ms, started_ms, ended_ms, execution_ok, verified, reason, hub, tier, model
FROM tasks
WHERE state = ?2 AND state <> 'queued' AND state <> 'assigned' AND state <> 'running' AND id < ?1
  AND (?3 IS NULL OR agent = ?3)
  AND (?4 IS NULL OR instr(labels, ?4) > 0)
  AND (?6 IS NULL OR instr(coalesce(folded, lower(title)), ?6) > 0 OR (length(?6) >= 8 AND instr(id, ?6) > 0))
  AND (?7 IS NULL OR priority IN (SELECT value FROM json_each(?7)))
  AND (?8 IS NULL OR tier IN (SELECT value FROM json_each(?8)))
  AND (?9 IS NULL OR model = ?9)
ORDER BY id DESC LIMIT ?5;

-- name: list_held
-- Few at any time, and the oldest of those that wait: found by their index, then put in order.
SELECT id, state, class, priority, epoch, agent, title, labels, retries, max_retries, infra_failures, ready_ms,
    submitted_ms, queued_ms, started_ms, ended_ms, execution_ok, verified, reason, hub, tier, model
FROM tasks INDEXED BY tasks_held
WHERE state IN ('assigned', 'running') AND state IN (SELECT value FROM json_each(?2)) AND id < ?1
  AND (?3 IS NULL OR agent = ?3)
  AND (?4 IS NULL OR instr(labels, ?4) > 0)
  AND (?6 IS NULL OR instr(coalesce(folded, lower(title)), ?6) > 0 OR (length(?6) >= 8 AND instr(id, ?6) > 0))
  AND (?7 IS NULL OR priority IN (SELECT value FROM json_each(?7)))
  AND (?8 IS NULL OR tier IN (SELECT value FROM json_each(?8)))
  AND (?9 IS NULL OR model = ?9)
ORDER BY id DESC LIMIT ?5;

-- name: list_queued
-- For a short queue under a long history; a long one is found by list_tasks at once.
SELECT id, state, class, priority, epoch, agent, title, labels, retries, max_retries, infra_failures, ready_ms,
    submitted_ms, queued_ms, started_ms, ended_ms, execution_ok, verified, reason, hub, tier, model
FROM tasks
WHERE ?2 = 'queued' AND id IN (
    SELECT id FROM tasks INDEXED BY tasks_ready WHERE state = 'queued' AND ready_ms IS NULL
    UNION ALL
    SELECT id FROM tasks INDEXED BY tasks_delayed WHERE state = 'queued' AND ready_ms IS NOT NULL
  ) AND id < ?1
  AND (?3 IS NULL OR agent = ?3)
  AND (?4 IS NULL OR instr(labels, ?4) > 0)
  AND (?6 IS NULL OR instr(coalesce(folded, lower(title)), ?6) > 0 OR (length(?6) >= 8 AND instr(id, ?6) > 0))
  AND (?7 IS NULL OR priority IN (SELECT value FROM json_each(?7)))
  AND (?8 IS NULL OR tier IN (SELECT value FROM json_each(?8)))
  AND (?9 IS NULL OR model = ?9)
ORDER BY id DESC LIMIT ?5;

-- name: list_sight
-- What is rare among many: looked for in an index that holds what lists ask about and nothing else, and in what is held.
SELECT id, state, class, priority, epoch, agent, title, labels, retries, max_retries, infra_failures, ready_ms,
    submitted_ms, queued_ms, started_ms, ended_ms, execution_ok, verified, reason, hub, tier, model
FROM tasks WHERE id IN (
    SELECT id FROM tasks INDEXED BY tasks_sight
    WHERE state <> 'assigned' AND state <> 'running' AND state IN (SELECT value FROM json_each(?2)) AND id < ?1
      AND (?3 IS NULL OR agent = ?3)
      AND (?4 IS NULL OR instr(labels, ?4) > 0)
      AND (?6 IS NULL OR instr(coalesce(folded, lower(title)), ?6) > 0 OR (length(?6) >= 8 AND instr(id, ?6) > 0))
      AND (?7 IS NULL OR priority IN (SELECT value FROM json_each(?7)))
      AND (?8 IS NULL OR tier IN (SELECT value FROM json_each(?8)))
      AND (?9 IS NULL OR model = ?9)
    UNION ALL
    SELECT id FROM tasks INDEXED BY tasks_held
    WHERE state IN ('assigned', 'running') AND state IN (SELECT value FROM json_each(?2)) AND id < ?1
      AND (?3 IS NULL OR agent = ?3)
      AND (?4 IS NULL OR instr(labels, ?4) > 0)
      AND (?6 IS NULL OR instr(coalesce(folded, lower(title)), ?6) > 0 OR (length(?6) >= 8 AND instr(id, ?6) > 0))
      AND (?7 IS NULL OR priority IN (SELECT value FROM json_each(?7)))
      AND (?8 IS NULL OR tier IN (SELECT value FROM json_each(?8)))
      AND (?9 IS NULL OR model = ?9)
    ORDER BY id DESC LIMIT ?5
  )
ORDER BY id DESC;

-- name: facets
-- In the order of the index, so nothing is sorted however many tasks there are but the few that are held.
SELECT state, priority, tier, agent, model, count(*) FROM tasks INDEXED BY tasks_sight
WHERE state <> 'assigned' AND state <> 'running' AND (?1 IS NULL OR instr(labels, ?1) > 0)
  AND (?2 IS NULL OR instr(coalesce(folded, lower(title)), ?2) > 0 OR (length(?2) >= 8 AND instr(id, ?2) > 0))
GROUP BY state, priority, tier, agent, model
UNION ALL
SELECT state, priority, tier, agent, model, count(*) FROM tasks INDEXED BY tasks_held
WHERE state IN ('assigned', 'running') AND (?1 IS NULL OR instr(labels, ?1) > 0)
  AND (?2 IS NULL OR instr(coalesce(folded, lower(title)), ?2) > 0 OR (length(?2) >= 8 AND instr(id, ?2) > 0))
GROUP BY state, priority, tier, agent, model;

-- name: label_sets
SELECT labels, count(*) FROM (
    SELECT labels FROM tasks INDEXED BY tasks_sight
    WHERE state <> 'assigned' AND state <> 'running' AND labels <> '{}' AND (?1 IS NULL OR state IN (SELECT value FROM json_each(?1)))
      AND (?2 IS NULL OR agent = ?2)
      AND (?3 IS NULL OR instr(coalesce(folded, lower(title)), ?3) > 0 OR (length(?3) >= 8 AND instr(id, ?3) > 0))
      AND (?4 IS NULL OR priority IN (SELECT value FROM json_each(?4)))
      AND (?5 IS NULL OR tier IN (SELECT value FROM json_each(?5)))
      AND (?6 IS NULL OR model = ?6)
    UNION ALL
    SELECT labels FROM tasks INDEXED BY tasks_held
    WHERE state IN ('assigned', 'running') AND labels <> '{}' AND (?1 IS NULL OR state IN (SELECT value FROM json_each(?1)))
      AND (?2 IS NULL OR agent = ?2)
      AND (?3 IS NULL OR instr(coalesce(folded, lower(title)), ?3) > 0 OR (length(?3) >= 8 AND instr(id, ?3) > 0))
      AND (?4 IS NULL OR priority IN (SELECT value FROM json_each(?4)))
      AND (?5 IS NULL OR tier IN (SELECT value FROM json_each(?5)))
      AND (?6 IS NULL OR model = ?6)
  )
GROUP BY labels ORDER BY count(*) DESC, labels LIMIT 1000;

-- name: last_task
SELECT max(id) FROM tasks;

-- name: counts
SELECT state, n FROM counts;

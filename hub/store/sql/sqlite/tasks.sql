-- name: add_task
INSERT INTO tasks (id, state, class, priority, title, labels, parent, max_retries, ready_ms, expires_ms, complete_by_ms,
                   submitted_ms, queued_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: add_spec
INSERT INTO specs (task, spec, tier, by) VALUES (?, ?, ?, ?);

-- name: add_dependency
INSERT OR IGNORE INTO dependencies (task, needs) VALUES (?, ?);

-- name: task_state
SELECT state, epoch, agent, class, priority, hub FROM tasks WHERE id = ?;

-- name: find_key
SELECT digest, ids FROM idempotency WHERE key = ?;

-- name: add_key
INSERT INTO idempotency (key, digest, ids, at_ms) VALUES (?, ?, ?, ?);

-- name: claim
-- What must never be given away is refused here, whoever asks and whatever he believes: a task that has taken too many
-- agents along, and anything at all to an agent that takes no new work, or has been welcomed elsewhere, or again, since.
UPDATE tasks SET state = 'assigned', epoch = epoch + 1, agent = ?2, hub = ?4, started_ms = NULL, reason = ''
WHERE id = ?1 AND state = 'queued' AND ready_ms IS NULL
  AND (epoch < ?3 OR (SELECT count(*) FROM attempts WHERE task = ?1 AND suspect = 1) < ?3)
  AND NOT EXISTS (SELECT 1 FROM agents WHERE name = ?2 AND (draining = 1 OR leaving = 1 OR hub <> ?4 OR boot <> ?5))
RETURNING epoch, retries, infra_failures, max_retries, (SELECT spec FROM specs WHERE task = ?1),
    (SELECT tier FROM specs WHERE task = ?1);

-- name: spec
SELECT spec, tier FROM specs WHERE task = ?;

-- name: accept
UPDATE tasks SET state = 'running', started_ms = ?3 WHERE id = ?1 AND epoch = ?2 AND hub = ?4 AND state = 'assigned';

-- name: finish
-- Only the current epoch of a held task ends it, and only at its hub: everything else is stale. A task that was started
-- was running; whether anything waits for it comes along.
UPDATE tasks SET state = ?3, agent = CASE WHEN ?3 = 'queued' THEN NULL ELSE agent END, hub = NULL, retries = ?4,
    infra_failures = ?5, reason = ?6, execution_ok = ?7, verified = ?8, ready_ms = ?9, class = coalesce(?12, class),
    queued_ms = CASE WHEN ?3 = 'queued' THEN ?10 ELSE queued_ms END,
    ended_ms = CASE WHEN ?3 = 'queued' THEN NULL ELSE ?10 END
WHERE id = ?1 AND epoch = ?2 AND hub = ?11 AND state IN ('assigned', 'running')
RETURNING class, priority, started_ms IS NOT NULL, EXISTS (SELECT 1 FROM dependencies WHERE needs = ?1);

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
SELECT count(*) FROM (
    SELECT 1 FROM tasks WHERE state = 'queued' AND ready_ms IS NULL AND class = ?1 AND (priority, id) < (?2, ?3)
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

-- name: unblock
UPDATE tasks SET state = 'queued', queued_ms = ?2, reason = '' WHERE id = ?1 AND state = 'blocked'
RETURNING class, priority, ready_ms;

-- name: task
SELECT id, state, class, priority, epoch, agent, title, labels, retries, max_retries, infra_failures, ready_ms,
    submitted_ms, queued_ms, started_ms, ended_ms, execution_ok, verified, reason, hub
FROM tasks WHERE id = ?;

-- name: list_tasks
-- A label is looked for as it is written: no value can hold an unescaped quote, so this finds whole labels only.
SELECT id, state, class, priority, epoch, agent, title, labels, retries, max_retries, infra_failures, ready_ms,
    submitted_ms, queued_ms, started_ms, ended_ms, execution_ok, verified, reason, hub
FROM tasks
WHERE (?1 IS NULL OR id < ?1)
  AND (?2 IS NULL OR state IN (SELECT value FROM json_each(?2)))
  AND (?3 IS NULL OR agent = ?3)
  AND (?4 IS NULL OR instr(labels, ?4) > 0)
ORDER BY id DESC LIMIT ?5;

-- name: list_settled
-- Of one state that is neither queued nor held: straight from its index, whatever else there is.
SELECT id, state, class, priority, epoch, agent, title, labels, retries, max_retries, infra_failures, ready_ms,
    submitted_ms, queued_ms, started_ms, ended_ms, execution_ok, verified, reason, hub
FROM tasks
WHERE state = ?2 AND state <> 'queued' AND state <> 'assigned' AND state <> 'running' AND id < ?1
  AND (?3 IS NULL OR agent = ?3)
  AND (?4 IS NULL OR instr(labels, ?4) > 0)
ORDER BY id DESC LIMIT ?5;

-- name: list_held
-- Few at any time, and the oldest of those that wait: found by their index, then put in order.
SELECT id, state, class, priority, epoch, agent, title, labels, retries, max_retries, infra_failures, ready_ms,
    submitted_ms, queued_ms, started_ms, ended_ms, execution_ok, verified, reason, hub
FROM tasks INDEXED BY tasks_held
WHERE state IN ('assigned', 'running') AND state IN (SELECT value FROM json_each(?2)) AND id < ?1
  AND (?3 IS NULL OR agent = ?3)
  AND (?4 IS NULL OR instr(labels, ?4) > 0)
ORDER BY id DESC LIMIT ?5;

-- name: list_queued
-- For a short queue under a long history; a long one is found by list_tasks at once.
SELECT id, state, class, priority, epoch, agent, title, labels, retries, max_retries, infra_failures, ready_ms,
    submitted_ms, queued_ms, started_ms, ended_ms, execution_ok, verified, reason, hub
FROM tasks
WHERE ?2 = 'queued' AND id IN (
    SELECT id FROM tasks INDEXED BY tasks_ready WHERE state = 'queued' AND ready_ms IS NULL
    UNION ALL
    SELECT id FROM tasks INDEXED BY tasks_delayed WHERE state = 'queued' AND ready_ms IS NOT NULL
  ) AND id < ?1
  AND (?3 IS NULL OR agent = ?3)
  AND (?4 IS NULL OR instr(labels, ?4) > 0)
ORDER BY id DESC LIMIT ?5;

-- name: last_task
SELECT max(id) FROM tasks;

-- name: counts
SELECT state, n FROM counts;

-- name: add_count
INSERT INTO counts (state, n) VALUES (?1, ?2) ON CONFLICT (state) DO UPDATE SET n = n + ?2;

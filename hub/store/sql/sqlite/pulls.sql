-- name: begin_pull
-- What another attempt of the task has begun, and nobody has opened, is about the newer work.
INSERT INTO pulls (task, epoch, project, state, body, next_ms, changed_ms, version)
SELECT column1, column2, '', 'pending', x'7b7d', column3, column3, 1 FROM (VALUES (?, ?, ?)) AS u WHERE true
ON CONFLICT (task) DO UPDATE SET epoch = excluded.epoch, version = version + 1 WHERE state = 'pending';

-- name: put_pull
UPDATE pulls SET epoch = ?2, project = ?3, state = ?4, body = ?5, next_ms = ?6, changed_ms = ?7, version = version + 1
WHERE task = ?1 AND version = ?8;

-- name: pull_version
SELECT version FROM pulls WHERE task = ?1;

-- name: drop_pull
DELETE FROM pulls WHERE task = ?1 AND version = ?2;

-- name: forget_pull
DELETE FROM pulls WHERE task = ?1;

-- name: pull
SELECT task, epoch, project, state, body, next_ms, changed_ms, version FROM pulls WHERE task = ?1;

-- name: due_pulls
-- Not before the task has ended, however: until then its work may still be refused.
SELECT p.task, p.epoch, p.project, p.state, p.body, p.next_ms, p.changed_ms, p.version
FROM pulls p CROSS JOIN tasks t ON t.id = p.task
WHERE p.next_ms <= ?1
AND (p.state <> 'pending' OR t.state IN ('completed', 'failed', 'cancelled', 'dead'))
ORDER BY p.next_ms LIMIT ?2;

-- name: pulls
SELECT task, epoch, project, state, body, next_ms, changed_ms, version FROM pulls
WHERE task < ?1 AND (?2 = '' OR state = ?2) AND (?3 = '' OR project = ?3) AND project <> ''
ORDER BY task DESC LIMIT ?4;

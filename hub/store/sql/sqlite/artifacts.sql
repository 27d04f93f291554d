-- name: put_artifact
-- A file that is sent again keeps the id that its first upload got.
INSERT INTO artifacts (id, task, epoch, path, size_bytes, sha256, at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (task, epoch, path)
    DO UPDATE SET size_bytes = excluded.size_bytes, sha256 = excluded.sha256, at_ms = excluded.at_ms
RETURNING id;

-- name: artifacts
SELECT a.id, a.task, a.epoch, a.path, a.size_bytes, a.sha256, a.at_ms, coalesce(t.accepted, 0)
FROM artifacts a LEFT JOIN attempts t ON t.task = a.task AND t.epoch = a.epoch
WHERE a.task = ?1 ORDER BY a.epoch, a.path;

-- name: artifact
SELECT a.id, a.task, a.epoch, a.path, a.size_bytes, a.sha256, a.at_ms, coalesce(t.accepted, 0)
FROM artifacts a LEFT JOIN attempts t ON t.task = a.task AND t.epoch = a.epoch
WHERE a.id = ?1;

-- name: artifact_of_digest
SELECT id FROM artifacts WHERE sha256 = ?1 LIMIT 1;

-- name: forget_artifacts
DELETE FROM artifacts WHERE task = ?;

-- name: over_progress
-- Tasks behind one that have ended for good, with files for machines: a dead letter may yet go on from its own.
SELECT DISTINCT a.task FROM artifacts a JOIN tasks t ON t.id = a.task
WHERE substr(a.path, 1, 10) = '.agentcom/' AND a.task > ?1 AND t.state IN ('completed', 'failed', 'cancelled')
ORDER BY a.task LIMIT ?2;

-- name: forget_progress
DELETE FROM artifacts WHERE task = ?1 AND substr(path, 1, 10) = '.agentcom/'
AND EXISTS (SELECT 1 FROM tasks WHERE id = ?1 AND state IN ('completed', 'failed', 'cancelled'));

-- name: no_default_project
UPDATE projects SET is_default = 0 WHERE is_default = 1 AND name <> ?;

-- name: put_project
INSERT INTO projects (name, is_default, body, created_ms, changed_ms) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (name) DO UPDATE SET is_default = ?2, body = ?3, changed_ms = ?5;

-- name: remove_project
DELETE FROM projects WHERE name = ?;

-- name: projects
SELECT name, is_default, body, created_ms, changed_ms FROM projects ORDER BY name;

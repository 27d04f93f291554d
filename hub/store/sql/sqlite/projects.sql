-- name: add_project
INSERT INTO projects (name, is_default, body, created_ms, changed_ms, version)
VALUES (?1, 0, ?2, ?3, ?4, 1) ON CONFLICT (name) DO NOTHING;

-- name: change_project
UPDATE projects SET is_default = 0, body = ?3, changed_ms = ?4, version = version + 1
WHERE name = ?1 AND version = ?2;

-- name: no_default_project
UPDATE projects SET is_default = 0, version = version + 1 WHERE is_default = 1 AND name <> ?1;

-- name: default_project
UPDATE projects SET is_default = 1 WHERE name = ?1;

-- name: project_version
SELECT version FROM projects WHERE name = ?1;

-- name: remove_project
DELETE FROM projects WHERE name = ?1 AND version = ?2;

-- name: projects
SELECT name, is_default, body, created_ms, changed_ms, version FROM projects ORDER BY name;

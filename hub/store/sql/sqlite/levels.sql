-- name: put_level
INSERT INTO log_levels (component, level, changed_ms, changed_by)
VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (component) DO UPDATE SET level = excluded.level,
    changed_ms = excluded.changed_ms, changed_by = excluded.changed_by;

-- name: drop_level
DELETE FROM log_levels WHERE component = ?1;

-- name: log_levels
SELECT component, level, changed_ms, changed_by FROM log_levels ORDER BY component;

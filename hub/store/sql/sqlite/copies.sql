-- Of the file itself: a database on a server counts its own commits and has its own backups.

-- name: put_fact
-- What a commit leaves of numbers that its writer has in mind: commits so far, the newest event, tasks of a state.
INSERT OR FAIL INTO facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: numbers
SELECT name, value FROM facts;

-- name: progress
SELECT (SELECT value FROM facts WHERE name = 'store_id'), (SELECT value FROM facts WHERE name = 'commits');

-- name: copied
SELECT value FROM facts WHERE name = 'copied_ms';

-- name: set_copied
UPDATE facts SET value = ? WHERE name = 'copied_ms';

-- name: count_rows
SELECT state, count(*) FROM tasks GROUP BY state;

-- name: count_without_spec
SELECT count(*) FROM tasks WHERE id NOT IN (SELECT task FROM specs);

-- name: count_tasks
SELECT count(*) FROM tasks;

-- name: last_event_row
SELECT max(seq) FROM events;

-- name: last_event_at
SELECT at_ms FROM events ORDER BY seq DESC LIMIT 1;

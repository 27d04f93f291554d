-- name: put_measure
INSERT INTO measures (about, name, value, at_ms) VALUES (?, ?, ?, ?)
ON CONFLICT (about, name) DO UPDATE SET value = excluded.value, at_ms = excluded.at_ms;

-- name: measures
-- Oldest first, as they were learnt.
SELECT about, name, value FROM measures ORDER BY about, at_ms;

-- name: forget_measures
-- All of a kind that are older than the newest one and so many others.
DELETE FROM measures WHERE about = ?1
  AND at_ms < (SELECT at_ms FROM measures WHERE about = ?1 ORDER BY at_ms DESC LIMIT 1 OFFSET ?2);

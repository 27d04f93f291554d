-- name: put_rate
INSERT INTO rate_limits (subject, action, per_s, burst, changed_ms, changed_by)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (subject, action) DO UPDATE SET per_s = excluded.per_s, burst = excluded.burst,
    changed_ms = excluded.changed_ms, changed_by = excluded.changed_by;

-- name: drop_rates
-- Of a class, or of a token all.
DELETE FROM rate_limits WHERE subject = $1 AND ($2 = '' OR action = $2);

-- name: rates
SELECT subject, action, per_s, burst, changed_ms, changed_by FROM rate_limits ORDER BY subject, action;

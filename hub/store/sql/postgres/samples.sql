-- name: put_sample
INSERT INTO samples (step_s, at_s, body) VALUES ($1, $2, $3)
ON CONFLICT (step_s, at_s) DO UPDATE SET body = excluded.body;

-- name: forget_samples
DELETE FROM samples WHERE step_s = $1 AND at_s < $2;

-- name: samples
SELECT at_s, body FROM samples WHERE step_s = $1 AND at_s > $2 AND at_s <= $3 ORDER BY at_s;

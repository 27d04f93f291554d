-- name: review_task
UPDATE tasks SET state = $2, class = $3, reason = $4, queued_ms = coalesce($5, queued_ms), ended_ms = $6
WHERE id = $1 AND state = 'waiting';

-- name: free_task
-- A task that a person has sent back belongs to nobody.
UPDATE tasks SET agent = NULL, started_ms = NULL, execution_ok = NULL, verified = NULL WHERE id = $1;

-- name: review_attempt
UPDATE attempts SET state = $3, accepted = $4, failure = $5, reason = $6 WHERE task = $1 AND epoch = $2;

-- name: add_review
INSERT INTO reviews (task, epoch, at_ms, verdict, by, reason) VALUES ($1, $2, $3, $4, $5, $6);

-- name: reviews
SELECT epoch, at_ms, verdict, by, reason FROM reviews WHERE task = $1 ORDER BY epoch;

-- name: forget_reviews
DELETE FROM reviews WHERE task = $1;

-- name: frozen_checks
SELECT checks FROM specs WHERE task = $1;

-- name: put_budget
INSERT INTO budgets (scope, name, tokens, micro, ms, changed_ms, changed_by) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (scope, name) DO UPDATE SET tokens = $3, micro = $4, ms = $5, changed_ms = $6, changed_by = $7;

-- name: remove_budget
DELETE FROM budgets WHERE scope = $1 AND name = $2;

-- name: budgets
SELECT scope, name, tokens, micro, ms, changed_ms, changed_by FROM budgets ORDER BY scope, name;

-- name: find_purse
SELECT scope, name, spent_tokens, spent_micro, spent_ms, reserved_tokens, reserved_micro, reserved_ms
FROM purses WHERE day = $1 AND scope = $2 AND name = $3;

-- name: purses
SELECT p.scope, p.name, p.spent_tokens, p.spent_micro, p.spent_ms, p.reserved_tokens, p.reserved_micro, p.reserved_ms
FROM budgets b JOIN purses p ON p.day = $1 AND p.scope = b.scope AND p.name = b.name;

-- name: put_purse
INSERT INTO purses (
    day, scope, name, spent_tokens, spent_micro, spent_ms, reserved_tokens, reserved_micro, reserved_ms
)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::bigint[])
ON CONFLICT (day, scope, name) DO UPDATE SET
    spent_tokens = excluded.spent_tokens, spent_micro = excluded.spent_micro, spent_ms = excluded.spent_ms,
    reserved_tokens = excluded.reserved_tokens, reserved_micro = excluded.reserved_micro,
    reserved_ms = excluded.reserved_ms;

-- name: find_reservation
SELECT day, submitter, project, tokens, micro, ms, is_presumed FROM reservations WHERE task = $1 AND epoch = $2;

-- name: put_reservation
INSERT INTO reservations (task, epoch, day, submitter, project, tokens, micro, ms, is_presumed)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
    $8::bigint[], $9::boolean[])
ON CONFLICT (task, epoch) DO UPDATE SET
    tokens = excluded.tokens, micro = excluded.micro, ms = excluded.ms, is_presumed = excluded.is_presumed;

-- name: drop_reservation
DELETE FROM reservations r USING unnest($1::text[], $2::bigint[]) AS u (task, epoch)
WHERE r.task = u.task AND r.epoch = u.epoch;

-- name: forget_purses
DELETE FROM purses WHERE day < $1;

-- name: forget_reservations
DELETE FROM reservations WHERE day < $1;

-- name: add_usage
INSERT INTO usage (at_ms, task, epoch, model, submitter, project, labels, input_tokens, output_tokens, cached_tokens,
                   micro, ms)
SELECT $1::bigint, t.id, $3::bigint, $4::text, s.by, $5::text, t.labels, $6::bigint, $7::bigint, $8::bigint, $9::bigint,
    $10::bigint
FROM tasks t JOIN specs s ON s.task = t.id WHERE t.id = $2
ON CONFLICT DO NOTHING;

-- name: usage
SELECT at_ms / $3::bigint * $3::bigint, model, submitter, project, labels, count(*), sum(input_tokens), sum(output_tokens), sum(cached_tokens),
    sum(micro), sum(ms), count(*) - count(micro)
FROM usage WHERE at_ms >= $1 AND at_ms < $2
GROUP BY 1, 2, 3, 4, 5;

-- name: forget_usage
DELETE FROM usage WHERE at_ms < $1;

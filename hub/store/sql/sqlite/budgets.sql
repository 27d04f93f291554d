-- name: put_budget
INSERT INTO budgets (scope, name, tokens, micro, ms, changed_ms, changed_by) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (scope, name) DO UPDATE SET tokens = ?3, micro = ?4, ms = ?5, changed_ms = ?6, changed_by = ?7;

-- name: remove_budget
DELETE FROM budgets WHERE scope = ?1 AND name = ?2;

-- name: budgets
SELECT scope, name, tokens, micro, ms, changed_ms, changed_by FROM budgets ORDER BY scope, name;

-- name: find_purse
SELECT scope, name, spent_tokens, spent_micro, spent_ms, reserved_tokens, reserved_micro, reserved_ms
FROM purses WHERE day = ?1 AND scope = ?2 AND name = ?3;

-- name: purses
SELECT p.scope, p.name, p.spent_tokens, p.spent_micro, p.spent_ms, p.reserved_tokens, p.reserved_micro, p.reserved_ms
FROM budgets b JOIN purses p ON p.day = ?1 AND p.scope = b.scope AND p.name = b.name;

-- name: put_purse
INSERT INTO purses (
    day, scope, name, spent_tokens, spent_micro, spent_ms, reserved_tokens, reserved_micro, reserved_ms
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT (day, scope, name) DO UPDATE SET
    spent_tokens = ?4, spent_micro = ?5, spent_ms = ?6,
    reserved_tokens = ?7, reserved_micro = ?8, reserved_ms = ?9;

-- name: find_reservation
SELECT day, submitter, project, tokens, micro, ms, is_presumed FROM reservations WHERE task = ?1 AND epoch = ?2;

-- name: put_reservation
INSERT INTO reservations (task, epoch, day, submitter, project, tokens, micro, ms, is_presumed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT (task, epoch) DO UPDATE SET tokens = ?6, micro = ?7, ms = ?8, is_presumed = ?9;

-- name: drop_reservation
DELETE FROM reservations WHERE task = ?1 AND epoch = ?2;

-- name: forget_purses
DELETE FROM purses WHERE day < ?1;

-- name: forget_reservations
DELETE FROM reservations WHERE day < ?1;

-- name: add_usage
INSERT INTO usage (at_ms, task, epoch, model, submitter, project, labels, input_tokens, output_tokens, cached_tokens,
                   micro, ms)
SELECT ?1, t.id, ?3, ?4, s.by, ?5, t.labels, ?6, ?7, ?8, ?9, ?10
FROM tasks t JOIN specs s ON s.task = t.id WHERE t.id = ?2
ON CONFLICT DO NOTHING;

-- name: usage
SELECT at_ms / ?3 * ?3, model, submitter, project, labels, count(*), sum(input_tokens), sum(output_tokens), sum(cached_tokens),
    sum(micro), sum(ms), count(*) - count(micro)
FROM usage WHERE at_ms >= ?1 AND at_ms < ?2
GROUP BY 1, 2, 3, 4, 5;

-- name: forget_usage
DELETE FROM usage WHERE at_ms < ?1;

-- name: add_join_token
INSERT INTO join_tokens (id, label, digest, uses, used, created_ms, expires_ms, created_by)
VALUES ($1, $2, $3, $4, 0, $5, $6, $7);

-- name: join_token
SELECT id, label, digest, uses, used, created_ms, expires_ms, created_by, revoked_ms FROM join_tokens WHERE id = $1;

-- name: join_tokens
SELECT id, label, digest, uses, used, created_ms, expires_ms, created_by, revoked_ms FROM join_tokens
ORDER BY created_ms DESC, id LIMIT 1000;

-- name: revoke_join_token
UPDATE join_tokens SET revoked_ms = $2 WHERE id = $1 AND revoked_ms IS NULL;

-- name: burn_join_token
UPDATE join_tokens SET used = used + 1 WHERE id = $1;

-- name: put_machine
INSERT INTO machines (
    key, code, state, name, address, facts, attempt, asked_ms, expires_ms, token, let_in, decided_by, joined_ms,
    bound_ms, replaces
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (key) DO UPDATE SET
    state = excluded.state, name = excluded.name, address = excluded.address, facts = excluded.facts,
    attempt = excluded.attempt, asked_ms = excluded.asked_ms, expires_ms = excluded.expires_ms, token = excluded.token,
    let_in = excluded.let_in, decided_by = excluded.decided_by, joined_ms = excluded.joined_ms,
    bound_ms = excluded.bound_ms, replaces = excluded.replaces;

-- name: machine
SELECT key, code, state, name, address, facts, attempt, asked_ms, expires_ms, token, let_in, decided_by, joined_ms,
    bound_ms, replaces
FROM machines WHERE key = $1;

-- name: machine_of_code
SELECT key, code, state, name, address, facts, attempt, asked_ms, expires_ms, token, let_in, decided_by, joined_ms,
    bound_ms, replaces
FROM machines WHERE code = $1;

-- name: machine_of_token
SELECT key, code, state, name, address, facts, attempt, asked_ms, expires_ms, token, let_in, decided_by, joined_ms,
    bound_ms, replaces
FROM machines WHERE token = $1 AND token <> '';

-- name: machines_at_door
-- Whose token is shown, and who has the name: the same machine, unless somebody plays another one. Who asks to join
-- again has its name for as long as its token counts.
SELECT key, code, state, name, address, facts, attempt, asked_ms, expires_ms, token, let_in, decided_by, joined_ms,
    bound_ms, replaces
FROM machines WHERE token = $1 AND token <> ''
UNION
SELECT key, code, state, name, address, facts, attempt, asked_ms, expires_ms, token, let_in, decided_by, joined_ms,
    bound_ms, replaces
FROM machines WHERE name = $2
    AND (state = 'joined' OR EXISTS (SELECT 1 FROM tokens t WHERE t.id = machines.token AND t.revoked_ms IS NULL));

-- name: bind_machine
UPDATE machines SET bound_ms = $2 WHERE key = $1 AND bound_ms IS NULL;

-- name: machine_named
SELECT key FROM machines WHERE name = $1 AND key NOT IN ($2, $3)
    AND (state = 'joined' OR EXISTS (SELECT 1 FROM tokens t WHERE t.id = machines.token AND t.revoked_ms IS NULL));

-- name: machines_waiting
SELECT key, code, state, name, address, facts, attempt, asked_ms, expires_ms, token, let_in, decided_by, joined_ms,
    bound_ms, replaces
FROM machines WHERE state = 'waiting' ORDER BY asked_ms, key LIMIT 1000;

-- name: waiting_machines
SELECT count(*) FROM machines WHERE state = 'waiting';

-- name: forget_requests
-- What nobody has decided in time, and what was denied; a machine that has had a token stays known.
DELETE FROM machines WHERE state IN ('waiting', 'denied', 'approved') AND expires_ms <= $1 AND token = '';

-- name: is_quarantined
SELECT 1 FROM agents WHERE name = $1 AND quarantine <> '';

-- name: is_revoked
SELECT 1 FROM tokens WHERE id = $1 AND revoked_ms IS NOT NULL;

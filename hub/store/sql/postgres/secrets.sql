-- name: secret_version
SELECT version FROM secrets WHERE name = $1;

-- name: put_secret
INSERT INTO secrets (name, version, key, sealed, projects, created_ms, changed_ms, changed_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (name) DO UPDATE SET
    version = excluded.version, key = excluded.key, sealed = excluded.sealed, projects = excluded.projects,
    changed_ms = excluded.changed_ms, changed_by = excluded.changed_by;

-- name: remove_secret
DELETE FROM secrets WHERE name = $1;

-- name: reseal_secret
UPDATE secrets SET key = $3, sealed = $4 WHERE name = $1 AND version = $2;

-- name: reseal_notifier
UPDATE notifiers SET url = $3, secret = '' WHERE id = $1 AND url = $2;

-- name: secrets
SELECT name, version, key, sealed, projects, created_ms, changed_ms, changed_by FROM secrets ORDER BY name;

-- name: secret
SELECT name, version, key, sealed, projects, created_ms, changed_ms, changed_by FROM secrets WHERE name = $1;

-- name: lock_keys
-- Until the end of the transaction; the number is "keystore".
SELECT pg_advisory_xact_lock(7738151096153108069);

-- name: keys_used
SELECT DISTINCT key FROM secrets;

-- name: sealed_urls
SELECT url FROM notifiers;

-- name: add_audit
INSERT OR FAIL INTO audit (seq, at_ms, actor, role, action, subject, verdict, detail, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: audit_head
-- The last entry, and the number of the last event.
SELECT (SELECT value FROM facts WHERE name = 'event_seq'), (SELECT max(seq) FROM audit),
    (SELECT hash FROM audit WHERE seq = (SELECT max(seq) FROM audit));

-- name: audit_ends
SELECT seq, hash, (SELECT max(seq) FROM audit), (SELECT hash FROM audit WHERE seq = (SELECT max(seq) FROM audit)) FROM audit_base;

-- name: audit_hash
-- The hash of an entry that others follow.
SELECT hash FROM audit WHERE seq = ?1 AND seq < (SELECT max(seq) FROM audit);

-- name: forget_audit
DELETE FROM audit WHERE seq <= ?;

-- name: move_audit_base
UPDATE audit_base SET seq = ?1, hash = ?2;

-- name: audit_roles
SELECT id, role FROM tokens WHERE id IN (SELECT value FROM json_each(?));

-- name: audit_newest
SELECT seq, at_ms, actor, role, action, subject, verdict, detail, hash FROM audit
WHERE seq < ?1 AND action <> 'commit' AND at_ms >= ?2 AND at_ms < ?3 AND (?4 = '' OR actor = ?4)
    AND (?5 = '' OR action = ?5 OR substr(action, 1, length(?5) + 1) = ?5 || '.') AND (?6 = '' OR subject = ?6)
ORDER BY seq DESC LIMIT ?7;

-- name: audit_all
SELECT seq, at_ms, actor, role, action, subject, verdict, detail, hash FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2;

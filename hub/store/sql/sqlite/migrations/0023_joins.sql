-- How machines join: tokens that let them in, and the machines by their public keys.
CREATE TABLE join_tokens (
    id TEXT PRIMARY KEY,
    label TEXT NOT NULL,
    digest BLOB NOT NULL,
    uses INTEGER NOT NULL,
    used INTEGER NOT NULL CHECK (used <= uses),
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    revoked_ms INTEGER
) WITHOUT ROWID;
CREATE TABLE machines (
    key TEXT PRIMARY KEY,
    code TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    name TEXT NOT NULL,
    address TEXT NOT NULL,
    facts TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    asked_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    token TEXT NOT NULL,
    let_in TEXT NOT NULL,
    decided_by TEXT NOT NULL,
    joined_ms INTEGER
) WITHOUT ROWID;
CREATE INDEX machines_state ON machines (state, asked_ms);
CREATE INDEX machines_token ON machines (token);

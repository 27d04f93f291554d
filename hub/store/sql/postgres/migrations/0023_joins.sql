-- How machines join: tokens that let them in, and the machines by their public keys.
CREATE TABLE join_tokens (
    id TEXT COLLATE "C" PRIMARY KEY,
    label TEXT NOT NULL,
    digest BYTEA NOT NULL,
    uses BIGINT NOT NULL,
    used BIGINT NOT NULL CHECK (used <= uses),
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    revoked_ms BIGINT
);
CREATE TABLE machines (
    key TEXT COLLATE "C" PRIMARY KEY,
    code TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    name TEXT NOT NULL,
    address TEXT NOT NULL,
    facts TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    asked_ms BIGINT NOT NULL,
    expires_ms BIGINT,
    token TEXT NOT NULL,
    let_in TEXT NOT NULL,
    decided_by TEXT NOT NULL,
    joined_ms BIGINT
);
CREATE INDEX machines_state ON machines (state, asked_ms);
CREATE INDEX machines_token ON machines (token);

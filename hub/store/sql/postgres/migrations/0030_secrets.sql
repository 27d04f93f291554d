-- Secrets of the keystore, sealed: the key is not in here. A version counts the values, and is sealed in.
CREATE TABLE secrets (
    name TEXT COLLATE "C" PRIMARY KEY,
    version BIGINT NOT NULL,
    key TEXT NOT NULL,
    sealed BYTEA NOT NULL,
    projects TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    changed_by TEXT NOT NULL
);

-- Secrets of the keystore, sealed: the key is not in here. A version counts the values, and is sealed in.
CREATE TABLE secrets (
    name TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    key TEXT NOT NULL,
    sealed BLOB NOT NULL,
    projects TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    changed_ms INTEGER NOT NULL,
    changed_by TEXT NOT NULL
) WITHOUT ROWID;

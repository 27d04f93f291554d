-- From which level on parts of the mesh log, where somebody has set one.
CREATE TABLE log_levels (
    component TEXT PRIMARY KEY NOT NULL,
    level TEXT NOT NULL,
    changed_ms INTEGER NOT NULL,
    changed_by TEXT NOT NULL
) WITHOUT ROWID;

-- Registered repositories and directories, and what their tasks inherit.
CREATE TABLE projects (
    name TEXT PRIMARY KEY,
    is_default INTEGER NOT NULL,
    body BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    changed_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX projects_default ON projects (is_default) WHERE is_default = 1;

-- Registered repositories and directories, and what their tasks inherit.
CREATE TABLE projects (
    name TEXT COLLATE "C" PRIMARY KEY,
    is_default BOOLEAN NOT NULL,
    body BYTEA NOT NULL,
    created_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX projects_default ON projects (is_default) WHERE is_default;

-- From which level on parts of the mesh log, where somebody has set one.
CREATE TABLE log_levels (
    component TEXT COLLATE "C" PRIMARY KEY,
    level TEXT COLLATE "C" NOT NULL,
    changed_ms BIGINT NOT NULL,
    changed_by TEXT COLLATE "C" NOT NULL
);

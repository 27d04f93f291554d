-- What was learnt of speeds, prices and kinds of tasks: the hub begins with it after a restart.
CREATE TABLE measures (
    about TEXT NOT NULL,
    name TEXT NOT NULL,
    value BYTEA NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (about, name)
);
CREATE INDEX measures_age ON measures (about, at_ms);

-- What was learnt of speeds, prices and kinds of tasks: the hub begins with it after a restart.
CREATE TABLE measures (
    about TEXT NOT NULL,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (about, name)
) WITHOUT ROWID;
CREATE INDEX measures_age ON measures (about, at_ms);

-- How each LLM endpoint was last seen (its models), and how it does; host is empty for one that people have added.
CREATE TABLE endpoint_health (
    host TEXT NOT NULL,
    id TEXT NOT NULL,
    seen BLOB NOT NULL,
    health BLOB NOT NULL,
    PRIMARY KEY (host, id)
) WITHOUT ROWID;

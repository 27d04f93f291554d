-- How each LLM endpoint was last seen (its models), and how it does; host is empty for one that people have added.
CREATE TABLE endpoint_health (
    host TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    seen BYTEA NOT NULL,
    health BYTEA NOT NULL,
    PRIMARY KEY (host, id)
);

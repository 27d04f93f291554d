-- The hub's figures over time: one row a step, its values by name as MessagePack.
CREATE TABLE samples (
    step_s INTEGER NOT NULL,
    at_s INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (step_s, at_s)
) WITHOUT ROWID;

-- The hub's figures over time: one row a step, its values by name as MessagePack.
CREATE TABLE samples (
    step_s BIGINT NOT NULL,
    at_s BIGINT NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (step_s, at_s)
);

-- Who decided what, in a chain of hashes: each entry's hash covers that of the entry before it.
CREATE TABLE audit (
    seq BIGINT PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    role TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    verdict TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash BYTEA NOT NULL
);
CREATE INDEX audit_decisions ON audit (seq) WHERE action <> 'commit';
-- The last entry that was forgotten; the chain goes on behind it.
CREATE TABLE audit_base (
    seq BIGINT PRIMARY KEY,
    hash BYTEA NOT NULL
);
INSERT INTO audit_base (seq, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

-- Who decided what, in a chain of hashes: each entry's hash covers that of the entry before it.
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    role TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    verdict TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash BLOB NOT NULL
);
CREATE INDEX audit_decisions ON audit (seq) WHERE action <> 'commit';
-- The last entry that was forgotten; the chain goes on behind it.
CREATE TABLE audit_base (
    seq INTEGER PRIMARY KEY,
    hash BLOB NOT NULL
);
INSERT INTO audit_base (seq, hash) VALUES (0, zeroblob(32));

-- Files that attempts have left: what they are called and what they hold; the bytes lie elsewhere, by their digest.
CREATE TABLE artifacts (
    id TEXT PRIMARY KEY,
    task TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    path TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    UNIQUE (task, epoch, path)
) WITHOUT ROWID;
CREATE INDEX artifacts_digest ON artifacts (sha256);

-- Files that attempts have left: what they are called and what they hold; the bytes lie elsewhere, by their digest.
CREATE TABLE artifacts (
    id TEXT PRIMARY KEY,
    task TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    path TEXT COLLATE "C" NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    UNIQUE (task, epoch, path)
);
CREATE INDEX artifacts_digest ON artifacts (sha256);

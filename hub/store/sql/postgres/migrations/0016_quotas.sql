-- What an LLM endpoint may be asked a minute; 0: as much as one likes.
ALTER TABLE endpoints ADD COLUMN rpm BIGINT NOT NULL DEFAULT 0;
ALTER TABLE endpoints ADD COLUMN tpm BIGINT NOT NULL DEFAULT 0;

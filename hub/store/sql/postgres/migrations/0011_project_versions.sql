-- Counts the changes of a project, so that nobody overwrites one that he has not seen.
ALTER TABLE projects ADD COLUMN version BIGINT NOT NULL DEFAULT 1;

-- Which attempts may have taken their agents along; which agents are about to leave, and which state directory is theirs.
ALTER TABLE attempts ADD COLUMN suspect INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN leaving INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN instance TEXT NOT NULL DEFAULT '';

-- Which attempts may have taken their agents along; which agents are about to leave, and which state directory is theirs.
ALTER TABLE attempts ADD COLUMN suspect BOOLEAN NOT NULL DEFAULT false;
ALTER TABLE agents ADD COLUMN leaving BOOLEAN NOT NULL DEFAULT false;
ALTER TABLE agents ADD COLUMN instance TEXT NOT NULL DEFAULT '';

-- What the checks of a task were when it was submitted, as a digest: reports about any others do not count.
ALTER TABLE specs ADD COLUMN checks TEXT NOT NULL DEFAULT '';

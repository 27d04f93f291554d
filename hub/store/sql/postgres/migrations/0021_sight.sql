-- What lists ask about and nothing else: the effective tier, the model that did, does or is to do the work, and the title
-- as it is compared where lower() is not enough (NULL: it is). Tasks from before have neither tier nor model.
ALTER TABLE tasks ADD COLUMN tier TEXT NOT NULL DEFAULT '';
ALTER TABLE tasks ADD COLUMN model TEXT NOT NULL DEFAULT '';
ALTER TABLE tasks ADD COLUMN folded TEXT;

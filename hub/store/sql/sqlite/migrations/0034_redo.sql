-- Nothing changes here: an older release knows no redo journal. It would refuse the store of a hub that was killed as one
-- that has lost commits, or go on without them.
SELECT 1;

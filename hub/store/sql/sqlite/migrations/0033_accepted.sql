-- One accepted attempt a task is a rule for rows that change: its index was a page of the log for each task that ends well, and
-- nobody looked anything up in it. The attempts of a task lie side by side, so the rule costs nothing but a look. An
-- attempt begins before it is accepted: no row comes in that is.
DROP INDEX attempts_accepted;
CREATE TRIGGER attempts_accepted AFTER UPDATE OF accepted ON attempts
WHEN new.accepted = 1 AND EXISTS (SELECT 1 FROM attempts WHERE task = new.task AND epoch <> new.epoch AND accepted = 1)
BEGIN
    SELECT RAISE(FAIL, 'a task has one accepted attempt');
END;

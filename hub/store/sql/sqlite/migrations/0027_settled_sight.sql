-- Tasks in hand change several times and are few: what is looked at of all tasks leaves them out, so a task that is
-- given away, begins and ends writes this index twice less. What is held has an index of its own.
DROP INDEX tasks_sight;
CREATE INDEX tasks_sight ON tasks (state, priority, tier, agent, model, id, labels, title, folded)
WHERE state <> 'assigned' AND state <> 'running';

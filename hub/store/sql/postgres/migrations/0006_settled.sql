-- Lists by state, of what has ended too: a page of them costs the same under any history.
CREATE INDEX tasks_settled ON tasks (state, id) WHERE state <> 'queued' AND state <> 'assigned' AND state <> 'running';

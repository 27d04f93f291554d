-- What is kept of work in progress: looked for when its task has ended.
CREATE INDEX artifacts_for_machines ON artifacts (task) WHERE substr(path, 1, 10) = '.agentcom/';

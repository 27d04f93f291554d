-- Several hubs may share a database: who lives, who leads, and whose each attempt and each agent is.
CREATE TABLE hubs (
    boot BIGINT PRIMARY KEY,
    node TEXT NOT NULL,
    url TEXT NOT NULL,
    version TEXT NOT NULL,
    started_ms BIGINT NOT NULL,
    until_ms BIGINT NOT NULL
);

-- One row a duty that only one hub may have; the epoch grows with every change of hands.
CREATE TABLE leaders (
    name TEXT PRIMARY KEY,
    hub BIGINT,
    epoch BIGINT NOT NULL,
    until_ms BIGINT NOT NULL
);
INSERT INTO leaders (name, hub, epoch, until_ms) VALUES ('sweeper', NULL, 0, 0);

-- The hub that answers for the attempt in hand.
ALTER TABLE tasks ADD COLUMN hub BIGINT CHECK (hub IS NULL OR state IN ('assigned', 'running'));
DROP INDEX tasks_held;
CREATE INDEX tasks_held ON tasks (agent) WHERE state IN ('assigned', 'running');

-- The hub that an agent was last welcomed by, how often it was welcomed at all, and which of its own dials that was.
ALTER TABLE agents ADD COLUMN hub BIGINT;
ALTER TABLE agents ADD COLUMN seat BIGINT NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN dial BIGINT NOT NULL DEFAULT 0;

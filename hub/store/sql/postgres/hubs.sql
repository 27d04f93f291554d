-- name: hub_clock
-- The one clock that judges the leases of hubs, whatever their own clocks say.
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint WHERE $1::bigint IS NOT NULL;

-- name: next_boot
UPDATE facts SET value = greatest(value + 1, $1) WHERE name = 'hub_boot' RETURNING value;

-- name: put_hub
INSERT INTO hubs (boot, node, url, version, started_ms, until_ms) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (boot) DO UPDATE SET url = $3, until_ms = $6;

-- name: renew_hub
UPDATE hubs SET url = $2, until_ms = $3 WHERE boot = $1;

-- name: later_hub
-- A later start of the same node: two run with copies of one data directory.
SELECT boot FROM hubs WHERE node = $1 AND boot > $2 LIMIT 1;

-- name: forget_earlier_hubs
-- Earlier starts of a node: the lock of its data directory proves that they are gone.
DELETE FROM hubs WHERE node = $1 AND boot < $2 RETURNING boot, url, until_ms;

-- name: forget_expired_hubs
DELETE FROM hubs WHERE until_ms <= $1 AND boot <> $2 RETURNING boot, url, until_ms;

-- name: leave_hub
UPDATE hubs SET until_ms = 0 WHERE boot = $1;

-- name: hubs
SELECT boot, node, url, version, started_ms, until_ms FROM hubs ORDER BY boot;

-- name: take_over
-- What hubs held that are no more.
UPDATE tasks SET hub = $1
WHERE state IN ('assigned', 'running') AND (hub IS NULL OR hub NOT IN (SELECT boot FROM hubs))
RETURNING id;

-- name: lead
-- Lead, or go on leading; a change of hands is a new epoch.
UPDATE leaders SET hub = $2, epoch = leaders.epoch + CASE WHEN hub = $2 THEN 0 ELSE 1 END, until_ms = $3
WHERE name = $1 AND (hub IS NULL OR hub = $2 OR until_ms <= $4 OR hub NOT IN (SELECT boot FROM hubs))
RETURNING epoch;

-- name: abdicate
UPDATE leaders SET hub = NULL WHERE hub = $1;

-- name: leader_epoch
SELECT epoch FROM leaders WHERE name = $1;

-- name: find_agent
SELECT boot, seat, dial, hub, draining, instance, host, quarantine FROM agents WHERE name = $1;

-- name: put_agent
INSERT INTO agents (name, host, boot, slots, version, capabilities, draining, last_seen_ms, leaving, instance, hub, seat,
                    dial)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (name) DO UPDATE SET host = $2, boot = $3, slots = $4, version = $5, capabilities = $6, draining = $7,
    last_seen_ms = $8, leaving = $9, instance = $10, hub = $11, seat = $12, dial = $13;

-- name: mark_agent
-- Whoever is released from quarantine while it is at no hub may come back as any of its starts.
UPDATE agents SET draining = coalesce($2, draining), leaving = coalesce($3, leaving),
    quarantine = coalesce($4, quarantine),
    boot = CASE WHEN $4 = '' AND (hub IS NULL OR hub NOT IN (SELECT boot FROM hubs)) THEN 0 ELSE boot END
WHERE name = $1;

-- name: leave_agent
-- Only if it has not been welcomed again since, here or elsewhere.
UPDATE agents SET hub = NULL, last_seen_ms = $4 WHERE name = $1 AND seat = $2 AND hub = $3;

-- name: agents
SELECT name, host, boot, slots, version, capabilities, draining, last_seen_ms, leaving, instance, hub, seat, quarantine
FROM agents;

-- name: hub_lives
SELECT 1 FROM hubs WHERE boot = $1 AND until_ms > $2;

-- name: adopt
-- What an agent has in hand goes with it to the hub that has welcomed it.
UPDATE tasks SET hub = $2 WHERE agent = $1 AND state IN ('assigned', 'running') AND (hub IS NULL OR hub <> $2);

-- name: held_elsewhere
-- What an agent has in hand at other hubs than this one.
SELECT t.id, t.state, t.class, t.priority, t.epoch, t.agent, t.title, t.labels, t.retries, t.max_retries,
    t.infra_failures, t.ready_ms, t.submitted_ms, t.queued_ms, t.started_ms, t.ended_ms, t.execution_ok, t.verified,
    t.reason, t.hub, t.tier, t.model,
    a.task, a.epoch, a.agent, a.host, a.boot, a.state, a.accepted, a.failure, a.reason, a.assigned_ms,
    a.started_ms, a.ended_ms, a.placement, NULL::bytea, a.suspect
FROM tasks t JOIN attempts a ON a.task = t.id COLLATE "default" AND a.epoch = t.epoch
WHERE t.agent = $1 AND t.state IN ('assigned', 'running') AND (t.hub IS NULL OR t.hub <> $2) ORDER BY t.id;

-- name: held
-- Ids are compared byte by byte in tasks only; with that collation the key of attempts could not be used.
SELECT t.id, t.state, t.class, t.priority, t.epoch, t.agent, t.title, t.labels, t.retries, t.max_retries,
    t.infra_failures, t.ready_ms, t.submitted_ms, t.queued_ms, t.started_ms, t.ended_ms, t.execution_ok, t.verified,
    t.reason, t.hub, t.tier, t.model,
    a.task, a.epoch, a.agent, a.host, a.boot, a.state, a.accepted, a.failure, a.reason, a.assigned_ms,
    a.started_ms, a.ended_ms, a.placement, NULL::bytea, a.suspect
FROM tasks t JOIN attempts a ON a.task = t.id COLLATE "default" AND a.epoch = t.epoch
WHERE t.state IN ('assigned', 'running') ORDER BY t.id;

-- name: waiting_tasks
-- Of these tasks (a JSON list of ids) those that still wait in the queue, and when time will want something of them.
SELECT id, state, class, priority, ready_ms, expires_ms, complete_by_ms FROM tasks
WHERE state IN ('blocked', 'queued') AND id IN (SELECT json_array_elements_text($1::json)) ORDER BY id;

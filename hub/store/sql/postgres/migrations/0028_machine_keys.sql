-- Since when a machine has to sign its connections, and which key came before; and who is out of work because its key
-- is in use twice.
ALTER TABLE machines ADD COLUMN bound_ms BIGINT;
ALTER TABLE machines ADD COLUMN replaces TEXT NOT NULL DEFAULT '';
CREATE INDEX machines_name ON machines (name);
ALTER TABLE agents ADD COLUMN quarantine TEXT NOT NULL DEFAULT '';

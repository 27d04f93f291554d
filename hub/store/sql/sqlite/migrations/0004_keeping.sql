-- Numbers that only ever grow are facts of their own: old events may go, their numbers never come back.
INSERT INTO facts (name, value) SELECT 'event_seq', coalesce(max(seq), 0) FROM events;
-- Events up to this one are gone.
INSERT INTO facts (name, value) VALUES ('event_floor', 0);
-- Which store this is, and how many batches it has committed: what hub.sqlite-mark is compared with.
INSERT INTO facts (name, value) VALUES ('store_id', abs(random() % 4611686018427387904)), ('commits', 0);
-- When this copy was made; 0 in a store that is no copy.
INSERT INTO facts (name, value) VALUES ('copied_ms', 0);

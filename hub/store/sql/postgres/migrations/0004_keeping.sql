-- Events up to this one are gone; their numbers never come back.
INSERT INTO facts (name, value) VALUES ('event_floor', 0);

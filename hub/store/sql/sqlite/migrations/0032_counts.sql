-- How many tasks there are of each state lies beside the other numbers that every commit changes: a page less in each.
INSERT INTO facts (name, value) SELECT 'tasks.' || state, n FROM counts;
DROP TABLE counts;
CREATE VIEW counts (state, n) AS SELECT substr(name, 7), value FROM facts WHERE name > 'tasks.' AND name < 'tasks/';

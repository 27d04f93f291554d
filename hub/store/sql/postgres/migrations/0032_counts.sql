-- Nothing changes here: several hubs change these rows, each by itself.
SELECT 1;

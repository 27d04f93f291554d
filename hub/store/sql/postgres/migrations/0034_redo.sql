-- Nothing changes here: the server has a log of its own, and every commit is synced by it.
SELECT 1;

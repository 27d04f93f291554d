-- No query has used it; every end of a task had to keep it up to date.
DROP INDEX tasks_troubled;

-- Nothing changes here: this database has no index of what lists ask about.
SELECT 1;

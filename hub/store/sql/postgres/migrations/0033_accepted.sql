-- Nothing changes here: the index that allows one accepted attempt a task stays.
SELECT 1;

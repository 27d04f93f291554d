-- An idempotency key is one of the token that has sent it: before it stands the token's id, and a line feed between them.
UPDATE idempotency
SET key = COALESCE((SELECT by FROM specs WHERE task = (ids::json ->> 0)), '') || chr(10) || key;

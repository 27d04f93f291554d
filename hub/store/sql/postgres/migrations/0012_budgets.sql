-- What may be used a day, what was used and is reserved of it, and which attempts have reserved how much.
CREATE TABLE budgets (
    scope TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    tokens BIGINT,
    micro BIGINT,
    ms BIGINT,
    changed_ms BIGINT NOT NULL,
    changed_by TEXT NOT NULL,
    PRIMARY KEY (scope, name)
);
CREATE TABLE purses (
    day BIGINT NOT NULL,
    scope TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    spent_tokens BIGINT NOT NULL,
    spent_micro BIGINT NOT NULL,
    spent_ms BIGINT NOT NULL,
    reserved_tokens BIGINT NOT NULL,
    reserved_micro BIGINT NOT NULL,
    reserved_ms BIGINT NOT NULL,
    PRIMARY KEY (day, scope, name)
);
CREATE TABLE reservations (
    task TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    day BIGINT NOT NULL,
    submitter TEXT NOT NULL,
    project TEXT NOT NULL,
    tokens BIGINT NOT NULL,
    micro BIGINT NOT NULL,
    ms BIGINT NOT NULL,
    is_presumed BOOLEAN NOT NULL,
    PRIMARY KEY (task, epoch)
);
CREATE INDEX reservations_day ON reservations (day);

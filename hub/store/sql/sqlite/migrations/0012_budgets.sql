-- What may be used a day, what was used and is reserved of it, and which attempts have reserved how much.
CREATE TABLE budgets (
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    tokens INTEGER,
    micro INTEGER,
    ms INTEGER,
    changed_ms INTEGER NOT NULL,
    changed_by TEXT NOT NULL,
    PRIMARY KEY (scope, name)
) WITHOUT ROWID;
CREATE TABLE purses (
    day INTEGER NOT NULL,
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    spent_tokens INTEGER NOT NULL,
    spent_micro INTEGER NOT NULL,
    spent_ms INTEGER NOT NULL,
    reserved_tokens INTEGER NOT NULL,
    reserved_micro INTEGER NOT NULL,
    reserved_ms INTEGER NOT NULL,
    PRIMARY KEY (day, scope, name)
) WITHOUT ROWID;
CREATE TABLE reservations (
    task TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    day INTEGER NOT NULL,
    submitter TEXT NOT NULL,
    project TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    micro INTEGER NOT NULL,
    ms INTEGER NOT NULL,
    is_presumed INTEGER NOT NULL,
    PRIMARY KEY (task, epoch)
) WITHOUT ROWID;
CREATE INDEX reservations_day ON reservations (day);

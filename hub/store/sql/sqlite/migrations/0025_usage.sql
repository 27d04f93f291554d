-- What attempts have used of models, whose they were, one row an attempt: what costs are summed from.
CREATE TABLE usage (
    at_ms INTEGER NOT NULL,
    task TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    model TEXT NOT NULL,
    submitter TEXT NOT NULL,
    project TEXT NOT NULL,
    labels TEXT NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    micro INTEGER,
    ms INTEGER NOT NULL,
    PRIMARY KEY (at_ms, task, epoch)
) WITHOUT ROWID;

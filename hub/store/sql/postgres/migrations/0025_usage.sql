-- What attempts have used of models, whose they were, one row an attempt: what costs are summed from.
CREATE TABLE usage (
    at_ms BIGINT NOT NULL,
    task TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    model TEXT NOT NULL,
    submitter TEXT NOT NULL,
    project TEXT NOT NULL,
    labels TEXT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    micro BIGINT,
    ms BIGINT NOT NULL,
    PRIMARY KEY (at_ms, task, epoch)
);

-- subject '' stands for the whole tenant (an id is never empty), so that it can be part of keys.
-- label is the window's name as everywhere: <period>:<start, Unix seconds>:<anchor version>.

CREATE TABLE usage_keys (
    tenant text NOT NULL,
    idempotency_key text NOT NULL,
    meter text NOT NULL,
    subject text NOT NULL,
    amount bigint NOT NULL,
    run uuid NOT NULL,
    journal_position bigint NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, idempotency_key)
) PARTITION BY HASH (tenant);
COMMENT ON TABLE usage_keys IS 'Every idempotency key seen within its retention, with what it was used for: an event counts once whoever flushes it';
COMMENT ON COLUMN usage_keys.tenant IS 'Whose key';
COMMENT ON COLUMN usage_keys.idempotency_key IS 'The key that the caller chose';
COMMENT ON COLUMN usage_keys.meter IS 'Fingerprint: the event''s meter';
COMMENT ON COLUMN usage_keys.subject IS 'Fingerprint: the event''s subject';
COMMENT ON COLUMN usage_keys.amount IS 'Fingerprint: the event''s amount, base units';
COMMENT ON COLUMN usage_keys.run IS 'Run whose event was counted';
COMMENT ON COLUMN usage_keys.journal_position IS 'Position of that event in the run''s journal';
COMMENT ON COLUMN usage_keys.received_at IS 'When the event reached the ledger, real time; retention counts from here';
DO $$
BEGIN
    FOR remainder IN 0..15 LOOP
        EXECUTE format(
            'CREATE TABLE usage_keys_p%s PARTITION OF usage_keys FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
            remainder, remainder);
    END LOOP;
END $$;
-- Rows arrive in the order of received_at, so a block range index is enough for the purge.
CREATE INDEX usage_keys_received_at ON usage_keys USING brin (received_at);

CREATE TABLE usage_events (
    tenant text NOT NULL,
    meter text NOT NULL,
    subject text NOT NULL,
    label text NOT NULL,
    event_at timestamptz NOT NULL,
    amount bigint NOT NULL,
    distinct_value text,
    idempotency_key text,
    properties jsonb NOT NULL,
    run uuid NOT NULL,
    journal_position bigint NOT NULL,
    received_at timestamptz NOT NULL,
    keep_until timestamptz NOT NULL
) PARTITION BY RANGE (received_at);
COMMENT ON TABLE usage_events IS 'Raw events of the meters that keep them. Partitioned by arrival and not by event time, because test clocks put events anywhere in time';
COMMENT ON COLUMN usage_events.tenant IS 'Whose usage';
COMMENT ON COLUMN usage_events.meter IS 'What was used';
COMMENT ON COLUMN usage_events.subject IS 'Subject within the tenant; empty = the tenant';
COMMENT ON COLUMN usage_events.label IS 'Window that it was counted in';
COMMENT ON COLUMN usage_events.event_at IS 'When it happened, by the tenant''s clock';
COMMENT ON COLUMN usage_events.amount IS 'Base units, as the caller said';
COMMENT ON COLUMN usage_events.distinct_value IS 'The value that a distinct-count meter counts';
COMMENT ON COLUMN usage_events.idempotency_key IS 'The caller''s key, if it gave one';
COMMENT ON COLUMN usage_events.properties IS 'The caller''s properties';
COMMENT ON COLUMN usage_events.run IS 'Run that acknowledged it';
COMMENT ON COLUMN usage_events.journal_position IS 'Its position in the run''s journal';
COMMENT ON COLUMN usage_events.received_at IS 'When it reached the ledger, real time';
COMMENT ON COLUMN usage_events.keep_until IS 'When it is deleted, real time';
CREATE INDEX usage_events_meter ON usage_events (tenant, meter, event_at);

CREATE TABLE usage_hourly (
    tenant text NOT NULL,
    meter text NOT NULL,
    subject text NOT NULL,
    label text NOT NULL,
    hour timestamptz NOT NULL,
    group_values jsonb NOT NULL,
    amount_sum bigint NOT NULL,
    events bigint NOT NULL CHECK (events > 0),
    amount_max bigint NOT NULL,
    last_amount bigint NOT NULL,
    last_at timestamptz NOT NULL,
    distinct_sketch bytea,
    PRIMARY KEY (tenant, meter, hour, label, subject, group_values)
) PARTITION BY RANGE (hour);
COMMENT ON TABLE usage_hourly IS 'Usage added up by UTC hour of the event time, by window and by the meter''s group-by properties';
COMMENT ON COLUMN usage_hourly.tenant IS 'Whose usage';
COMMENT ON COLUMN usage_hourly.meter IS 'What was used';
COMMENT ON COLUMN usage_hourly.subject IS 'Subject within the tenant; empty = the tenant';
COMMENT ON COLUMN usage_hourly.label IS 'Window that it was counted in';
COMMENT ON COLUMN usage_hourly.hour IS 'Start of the hour, UTC';
COMMENT ON COLUMN usage_hourly.group_values IS 'Values of the group-by properties, an object of strings; a property that the event lacked is absent';
COMMENT ON COLUMN usage_hourly.amount_sum IS 'Sum of the amounts, base units';
COMMENT ON COLUMN usage_hourly.events IS 'Number of events';
COMMENT ON COLUMN usage_hourly.amount_max IS 'Largest amount';
COMMENT ON COLUMN usage_hourly.last_amount IS 'Amount of the latest event by event time; the larger of several at the same time';
COMMENT ON COLUMN usage_hourly.last_at IS 'Event time of last_amount';
COMMENT ON COLUMN usage_hourly.distinct_sketch IS 'Distinct values, on distinct-count meters: the encoded set or its sketch';

CREATE TABLE usage_daily (
    tenant text NOT NULL,
    meter text NOT NULL,
    subject text NOT NULL,
    label text NOT NULL,
    day timestamptz NOT NULL,
    group_values jsonb NOT NULL,
    amount_sum bigint NOT NULL,
    events bigint NOT NULL CHECK (events > 0),
    amount_max bigint NOT NULL,
    last_amount bigint NOT NULL,
    last_at timestamptz NOT NULL,
    distinct_sketch bytea,
    PRIMARY KEY (tenant, meter, day, label, subject, group_values)
) PARTITION BY RANGE (day);
COMMENT ON TABLE usage_daily IS 'Usage added up by UTC day of the event time, by window and by the meter''s group-by properties';
COMMENT ON COLUMN usage_daily.tenant IS 'Whose usage';
COMMENT ON COLUMN usage_daily.meter IS 'What was used';
COMMENT ON COLUMN usage_daily.subject IS 'Subject within the tenant; empty = the tenant';
COMMENT ON COLUMN usage_daily.label IS 'Window that it was counted in';
COMMENT ON COLUMN usage_daily.day IS 'Start of the day, UTC';
COMMENT ON COLUMN usage_daily.group_values IS 'As in usage_hourly';
COMMENT ON COLUMN usage_daily.amount_sum IS 'Sum of the amounts, base units';
COMMENT ON COLUMN usage_daily.events IS 'Number of events';
COMMENT ON COLUMN usage_daily.amount_max IS 'Largest amount';
COMMENT ON COLUMN usage_daily.last_amount IS 'As in usage_hourly';
COMMENT ON COLUMN usage_daily.last_at IS 'Event time of last_amount';
COMMENT ON COLUMN usage_daily.distinct_sketch IS 'As in usage_hourly';

CREATE TABLE window_totals (
    tenant text NOT NULL,
    meter text NOT NULL,
    label text NOT NULL,
    subject text NOT NULL,
    aggregation text NOT NULL
        CHECK (aggregation IN ('sum', 'count', 'max', 'last', 'distinct_count')),
    used bigint NOT NULL,
    forfeited bigint NOT NULL DEFAULT 0 CHECK (forfeited >= 0),
    amount_sum bigint NOT NULL,
    events bigint NOT NULL CHECK (events >= 0),
    amount_max bigint,
    last_amount bigint,
    last_at timestamptz,
    distinct_sketch bytea,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, meter, label, subject)
) WITH (fillfactor = 80);
COMMENT ON TABLE window_totals IS 'One row per counter: what is used in each window. Equals the sum of its hourly rows and of its run_totals by construction';
COMMENT ON COLUMN window_totals.tenant IS 'Whose usage';
COMMENT ON COLUMN window_totals.meter IS 'What was used';
COMMENT ON COLUMN window_totals.label IS 'The window';
COMMENT ON COLUMN window_totals.subject IS 'Subject within the tenant; empty = the tenant';
COMMENT ON COLUMN window_totals.aggregation IS 'How the meter aggregated when it last counted here';
COMMENT ON COLUMN window_totals.used IS 'Units that count against the limit of a sum, count or level; 0 on other meters';
COMMENT ON COLUMN window_totals.forfeited IS 'Units that count against the limit and are billed to nobody: escrow of closed runs that may have been spent';
COMMENT ON COLUMN window_totals.amount_sum IS 'Sum of the amounts, base units';
COMMENT ON COLUMN window_totals.events IS 'Number of events';
COMMENT ON COLUMN window_totals.amount_max IS 'Largest amount; null without events';
COMMENT ON COLUMN window_totals.last_amount IS 'As in usage_hourly; null without events';
COMMENT ON COLUMN window_totals.last_at IS 'Event time of last_amount; null without events';
COMMENT ON COLUMN window_totals.distinct_sketch IS 'As in usage_hourly';
COMMENT ON COLUMN window_totals.updated_at IS 'When a flush last touched it, real time';

CREATE TABLE run_totals (
    tenant text NOT NULL,
    meter text NOT NULL,
    label text NOT NULL,
    subject text NOT NULL,
    run uuid NOT NULL REFERENCES runs (run),
    consumed bigint NOT NULL CHECK (consumed >= 0),
    recorded bigint NOT NULL CHECK (recorded >= 0),
    undone bigint NOT NULL CHECK (undone >= 0),
    forfeited bigint NOT NULL DEFAULT 0 CHECK (forfeited >= 0),
    PRIMARY KEY (tenant, meter, label, subject, run)
) WITH (fillfactor = 80);
COMMENT ON TABLE run_totals IS 'What each run did to each counter, as far as it is flushed: its part of window_totals.used is consumed + recorded - undone. All four only grow';
COMMENT ON COLUMN run_totals.tenant IS 'Whose usage';
COMMENT ON COLUMN run_totals.meter IS 'What was used';
COMMENT ON COLUMN run_totals.label IS 'The window';
COMMENT ON COLUMN run_totals.subject IS 'Subject within the tenant; empty = the tenant';
COMMENT ON COLUMN run_totals.run IS 'The run';
COMMENT ON COLUMN run_totals.consumed IS 'Units that its events took from escrow, duplicates included';
COMMENT ON COLUMN run_totals.recorded IS 'Units that its events added without escrow, duplicates included';
COMMENT ON COLUMN run_totals.undone IS 'Units of these that do not count after all: duplicates, quarantined events, and levels that went down';
COMMENT ON COLUMN run_totals.forfeited IS 'Units of its escrow that were forfeited when it was closed';
CREATE INDEX run_totals_run ON run_totals (run);

CREATE TABLE quarantine (
    entry bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    meter text NOT NULL,
    reason text NOT NULL
        CHECK (reason IN ('unknown_tenant', 'key_conflict', 'out_of_range', 'refused')),
    problem text NOT NULL,
    event jsonb NOT NULL,
    run uuid NOT NULL,
    journal_position bigint NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE quarantine IS 'Acknowledged usage that could not be counted for its content. It is kept, visible and counted here, and taken back from the counters';
COMMENT ON COLUMN quarantine.entry IS 'Number of the entry';
COMMENT ON COLUMN quarantine.tenant IS 'Whose usage it claims to be';
COMMENT ON COLUMN quarantine.meter IS 'What was used';
COMMENT ON COLUMN quarantine.reason IS 'unknown_tenant; key_conflict: the key was used for something else; out_of_range: a time or a sum that cannot be stored; refused: by Postgres';
COMMENT ON COLUMN quarantine.problem IS 'What exactly is wrong';
COMMENT ON COLUMN quarantine.event IS 'The event, or the sum of events without keys';
COMMENT ON COLUMN quarantine.run IS 'Run that acknowledged it';
COMMENT ON COLUMN quarantine.journal_position IS 'Its position in the run''s journal; of a sum, the end of its batch';
COMMENT ON COLUMN quarantine.quarantined_at IS 'When, real time';
CREATE INDEX quarantine_tenant ON quarantine (tenant, entry);

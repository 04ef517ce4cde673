CREATE TABLE grants (
    tenant text NOT NULL REFERENCES tenants (tenant),
    grant_number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    meter text NOT NULL,
    subject text NOT NULL DEFAULT '',
    kind text NOT NULL
        CHECK (kind IN ('top_up', 'recurring', 'promotional', 'rollover', 'emergency')),
    amount bigint NOT NULL CHECK (amount > 0 AND amount < 9007199254740992),
    priority integer NOT NULL CHECK (priority BETWEEN 0 AND 65535),
    starts_at timestamptz NOT NULL,
    expires_at timestamptz CHECK (expires_at >= starts_at),
    every text,
    rollover_cap bigint CHECK (rollover_cap >= 0),
    covers_level boolean NOT NULL,
    source text NOT NULL,
    source_key text NOT NULL,
    price jsonb,
    change_version bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    PRIMARY KEY (tenant, grant_number),
    UNIQUE (tenant, source_key),
    CHECK ((kind = 'recurring') = (every IS NOT NULL)),
    CHECK (kind = 'recurring' OR rollover_cap IS NULL)
);
COMMENT ON TABLE grants IS 'Extra allowance of tenants beside their plans'' limits. What is used of one is in window_totals under its label, grant_<number>:<start>:<version>';
COMMENT ON COLUMN grants.tenant IS 'Who has it';
COMMENT ON COLUMN grants.grant_number IS 'Names it, as grant_<number>; in the order of creation';
COMMENT ON COLUMN grants.meter IS 'What it allows more of';
COMMENT ON COLUMN grants.subject IS 'Only for usage of this subject; empty = for all of the tenant''s';
COMMENT ON COLUMN grants.kind IS 'How it came about: top_up, recurring, promotional, rollover or emergency';
COMMENT ON COLUMN grants.amount IS 'Base units; of a recurring grant, in each window of its period';
COMMENT ON COLUMN grants.priority IS 'Lower burns first; emergency usage burns last whatever it says';
COMMENT ON COLUMN grants.starts_at IS 'Since when, by the tenant''s clock';
COMMENT ON COLUMN grants.expires_at IS 'When what is unused lapses, by the tenant''s clock; null = never. Revoking a grant ends it there';
COMMENT ON COLUMN grants.every IS 'Period that a recurring grant is given anew in';
COMMENT ON COLUMN grants.rollover_cap IS 'Most unused units that a recurring grant carries into its next window; null = none';
COMMENT ON COLUMN grants.covers_level IS 'It is on a level meter: what it covers stays counted after its end, until the level has gone down';
COMMENT ON COLUMN grants.source IS 'Where it comes from: an operator, a grant of the catalog, a plan''s emergency rule, a window that ended';
COMMENT ON COLUMN grants.source_key IS 'Lets each grant be given once, however often it is asked for';
COMMENT ON COLUMN grants.price IS 'What it costs: one amount, or a price of what is used of it; null = free';
COMMENT ON COLUMN grants.change_version IS 'Number of the last change (commit_sequences) to the row';
COMMENT ON COLUMN grants.created_at IS 'When, real time';
COMMENT ON COLUMN grants.revoked_at IS 'When it was revoked, real time; null = it was not';
